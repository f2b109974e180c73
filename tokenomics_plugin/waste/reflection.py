"""Looking at it once more without a change: reflection (D15) and verification (D16)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Final

from tokenomics_plugin.cells import Tier
from tokenomics_plugin.trajectory import ModelCall, Trajectory
from tokenomics_plugin.waste.carriage import CarriedContext
from tokenomics_plugin.waste.detector import Need
from tokenomics_plugin.waste.facts import Facts, end_of, facts_of, has_completed
from tokenomics_plugin.waste.finding import Finding

__all__ = ["RedundantVerification", "ReflectionWithoutChange"]

_LOOKS: Final = frozenset({"reflect", "verify"})
_VERIFY: Final = "verify"


@dataclass(frozen=True, kw_only=True)
class ReflectionWithoutChange:
    """D15: a draft was criticised, written again, and came out the same.

    The second writing is provably wasted, if its writer was sent the draft or the critique. The critique is a matter
    of policy: like any insurance it is paid for in vain most of the time.
    """

    id: ClassVar[str] = "D15"
    name: ClassVar[str] = "reflection without change"
    tier: ClassVar[Tier] = Tier.A
    needs: ClassVar[frozenset[Need]] = frozenset({Need.HASHES, Need.CONTEXTS, Need.STEP_KINDS})

    def find(self, trajectory: Trajectory) -> Iterator[Finding]:
        """Two findings for each revision that changed nothing."""
        facts = facts_of(trajectory)
        drafts: dict[str, tuple[ModelCall, int]] = {}
        looks: list[ModelCall] = []
        for call in trajectory.model_calls:
            if not has_completed(call) or call.is_replay or call.answer_hash is None:
                continue
            draft, seen = drafts.get(call.answer_hash, (None, len(looks)))
            critiques = [look for look in looks[seen:] if end_of(look) <= call.started_unix_nano]
            if draft is not None and critiques and call.step_kind != _VERIFY:
                yield from self._unchanged(facts, draft, critiques, call)
            if call.step_kind in _LOOKS:
                looks.append(call)
            drafts[call.answer_hash] = call, len(looks)

    def _unchanged(
        self, facts: Facts, draft: ModelCall, critiques: list[ModelCall], revision: ModelCall
    ) -> Iterator[Finding]:
        if not any(facts.knew(revision.span_id, call.span_id) for call in (draft, *critiques)):
            return
        evidence = (draft.span_id, *(critique.span_id for critique in critiques))
        yield Finding(cause=self.id, tier=Tier.A, spans=(revision.span_id,), evidence=evidence)
        of_draft = [look.span_id for look in critiques if facts.knew(look.span_id, draft.span_id)]
        if of_draft:
            evidence = draft.span_id, revision.span_id
            yield Finding(cause=self.id, tier=Tier.C, spans=tuple(of_draft), evidence=evidence)


@dataclass(frozen=True, kw_only=True)
class RedundantVerification:
    """D16: the same checker gave the same verdict on the same thing again, and nothing was written in between.

    What is checked is the last block that it was sent. Provable where the whole context was the same, likely where
    only that block was. Verdicts that were asked for at the same time are a panel of judges, and no finding.
    """

    id: ClassVar[str] = "D16"
    name: ClassVar[str] = "redundant verification"
    tier: ClassVar[Tier] = Tier.A
    needs: ClassVar[frozenset[Need]] = frozenset({Need.HASHES, Need.CONTEXTS, Need.STEP_KINDS})

    def find(self, trajectory: Trajectory) -> Iterator[Finding]:
        """One finding for each needless verdict."""
        facts = facts_of(trajectory)
        first: dict[tuple[object, ...], CarriedContext] = {}
        for context in facts.carriage.contexts.values():
            call = context.call
            if call.step_kind != _VERIFY or not has_completed(call) or call.is_replay or call.answer_hash is None:
                continue
            artefact = call.context[-1] if call.context else None
            if artefact is None or artefact.role == "system":
                continue
            key = call.agent, call.node, call.provider, call.model, artefact.hash, call.answer_hash
            earlier = first.setdefault(key, context)
            if earlier is not context and _is_needless(facts, call, earlier.call):
                is_proven = context.node == earlier.node is not None
                yield Finding(
                    cause=self.id,
                    tier=Tier.A if is_proven else Tier.B,
                    spans=(call.span_id,),
                    evidence=(earlier.call.span_id,),
                )


def _is_needless(facts: Facts, call: ModelCall, earlier: ModelCall) -> bool:
    is_panel = call.started_unix_nano < end_of(earlier) or facts.is_ensemble(earlier, call)
    return not is_panel and not facts.writes.any_between(earlier, call)
