"""What share of the claimed money is wasted indeed, and of the rest: by looking at a sample of spans.

A detector is a test with errors of both kinds. An audit draws some of the spans that it claimed and some that nobody
did, has people or an ablation judge them, and weighs the verdicts. Spans are drawn in proportion to their cost, with
replacement, so that the share of wasted verdicts is an unbiased estimate of the share of wasted money (Hansen and
Hurwitz, Ann. Math. Statist. 14(4), 1943). Intervals of strata are Wilson's, which hold when every verdict is the
same, and are added up by recovered variances (Zou and Donner, Statist. Med. 27(10), 2008).
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from math import hypot

from tokenomics_plugin.statistics.bounds import Range
from tokenomics_plugin.statistics.proportion import wilson
from tokenomics_plugin.waste.finding import Finding

__all__ = ["AuditStratum", "CalibratedWaste", "audit_strata", "calibrated_waste", "find_audit_sample"]


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditStratum:
    """Spans that one detector claimed, or that none did, and what an audit said of some."""

    usd: Decimal
    """What all of them cost."""
    verdicts: Sequence[bool] = ()
    """Of the drawn ones, whether each was wasted; a span that was drawn twice counts twice."""

    @property
    def precision(self) -> Range | None:
        """Share of its money that is wasted, Wilson's interval; `None` before any verdict."""
        return wilson(sum(self.verdicts), len(self.verdicts)) if self.verdicts else None


@dataclass(frozen=True, kw_only=True, slots=True)
class CalibratedWaste:
    """Wasted money, as an audit bears it out."""

    usd: float | None
    """The estimate; `None` while a stratum has no verdict."""
    range_usd: Range
    """Interval; a stratum without a verdict may be wasted from nothing to all."""
    recall: float | None
    """Share of the wasted money that some detector claimed; `None` while unknown, and where nothing is wasted."""


def audit_strata(costs: Mapping[str, Decimal], findings: Iterable[Finding]) -> dict[str | None, list[str]]:
    """Spans by the cause that has the strongest evidence against them, the first of several; by `None` without any.

    Args:
        costs: What each span cost, in USD. Others are left out.
        findings: What detectors found, in the order of the detectors. Those that are no waste do not count.
    """
    causes: dict[str, Finding] = {}
    for finding in findings:
        if finding.is_waste:
            for span in (*finding.spans, *finding.outputs, *(claimed.call for claimed in finding.blocks)):
                known = causes.setdefault(span, finding)
                if finding.tier < known.tier:
                    causes[span] = finding
    strata: defaultdict[str | None, list[str]] = defaultdict(list)
    for span in costs:
        strata[causes[span].cause if span in causes else None].append(span)
    return dict(strata)


def find_audit_sample(
    costs: Mapping[str, Decimal], findings: Iterable[Finding], *, per_stratum: int, seed: int
) -> dict[str | None, list[str]]:
    """Draw the spans to look at: from each stratum, in proportion to cost, with replacement.

    Args:
        costs: What each span cost, in USD.
        findings: What detectors found.
        per_stratum: How many to draw from each; 30 tell a precision to about 18 points.
        seed: The same seed draws the same spans.
    """
    draw = random.Random(seed)
    sample = {}
    for cause, spans in sorted(audit_strata(costs, findings).items(), key=lambda item: item[0] or ""):
        weights = [float(costs[span]) for span in spans]
        if any(weights):
            sample[cause] = draw.choices(spans, weights=weights, k=per_stratum)
    return sample


def calibrated_waste(strata: Mapping[str | None, AuditStratum]) -> CalibratedWaste:
    """Weigh the verdicts of an audit: sum of cost times precision over the strata.

    Args:
        strata: By cause; `None` is what no detector claimed.
    """
    total = unclaimed = below = above = unjudged = 0.0
    is_known = True
    for cause, stratum in strata.items():
        usd, precision = float(stratum.usd), stratum.precision
        if precision is None:
            is_known, unjudged = is_known and not usd, unjudged + usd
            continue
        share = sum(stratum.verdicts) / len(stratum.verdicts)
        total += usd * share
        unclaimed += usd * share if cause is None else 0.0
        below = hypot(below, usd * (share - (precision.low or 0.0)))
        above = hypot(above, usd * (1.0 - share if precision.high is None else precision.high - share))
    return CalibratedWaste(
        usd=total if is_known else None,
        range_usd=Range(low=total - below, high=total + unjudged + above),
        recall=1 - unclaimed / total if is_known and total and None in strata else None,
    )
