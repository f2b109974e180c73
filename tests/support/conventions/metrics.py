"""The rules for metrics."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, Literal

from opentelemetry.sdk.metrics.export import Histogram, Metric, Sum

from conventions import tables
from conventions.findings import Finding, advice, violation
from conventions.values import problems_of_value

__all__ = ["violations_of_metric"]

Generation = Literal["current", "previous", "both"]

_RULES: Final[dict[Generation, dict[str, tables.MetricRule]]] = {
    "current": tables.METRICS,
    "previous": tables.PREVIOUS_METRICS,
    "both": tables.METRICS | tables.PREVIOUS_METRICS,
}
_METRICS_ONLY: Final = {"gen_ai.token.modality": tables.STRING, "gen_ai.token.type": tables.STRING}
_MODALITIES: Final = frozenset({"text", "image", "audio", "unknown"})


def violations_of_metric(metric: Metric, *, generation: Generation = "current") -> list[Finding]:
    """Everything in which a metric departs from the conventions.

    Args:
        metric: It, as a reader collected it.
        generation: Whether by the names of today, or by those of version 1.41.
    """
    rule = _RULES[generation].get(metric.name)
    if rule is None:
        return [violation("unknown", metric.name, f"is a metric of no convention of the {generation} generation")]
    return [*_instrument(metric, rule), *(f for point in metric.data.data_points for f in _point(metric, point, rule))]


def _instrument(metric: Metric, rule: tables.MetricRule) -> Iterator[Finding]:
    data = metric.data
    is_counter = isinstance(data, Sum) and data.is_monotonic
    found = "counter" if is_counter else "histogram" if isinstance(data, Histogram) else type(data).__name__
    if found != rule.instrument:
        yield violation("instrument", metric.name, f"is a {found}, should be a {rule.instrument}")
    # The conventions give counts of calls a unit in braces; which word stands in them is an annotation.
    is_right = (metric.unit or "").startswith("{") if rule.unit == "" else metric.unit == rule.unit
    if not is_right:
        yield violation("unit", metric.name, f"is in {metric.unit!r}, should be in {rule.unit or 'an annotation'!r}")


def _point(metric: Metric, point: Any, rule: tables.MetricRule) -> Iterator[Finding]:
    attributes = dict(point.attributes or {})
    for name in sorted(rule.required - set(attributes)):
        yield violation("required", metric.name, f"{name} is missing")
    for name in sorted(set(attributes) - rule.required - rule.allowed):
        yield violation("place", metric.name, f"{name} does not belong here")
    for name, value in attributes.items():
        kind = tables.ATTRIBUTES.get(name) or _METRICS_ONLY.get(name)
        for problem in problems_of_value(kind, value) if kind else ():
            yield violation("type", metric.name, f"{name} {problem}")
    if attributes.get("gen_ai.token.modality", "unknown") not in _MODALITIES:
        yield violation("value", metric.name, f"gen_ai.token.modality is {attributes['gen_ai.token.modality']!r}")
    yield from _values(metric, point, rule)


def _values(metric: Metric, point: Any, rule: tables.MetricRule) -> Iterator[Finding]:
    value = point.sum if isinstance(metric.data, Histogram) else getattr(point, "value", None)
    if rule.is_count and not isinstance(value, int):
        yield violation("type", metric.name, f"counts {value!r}, which is no whole number")
    if rule.buckets is None or not isinstance(metric.data, Histogram):
        return
    found = tuple(point.explicit_bounds)
    if metric.name == "gen_ai.invoke_workflow.duration":
        # The digest of the conventions that this follows gives the first and the last boundary only.
        found = (found[0], found[-1]) if found else ()
    if not _are_close(found, rule.buckets):
        yield advice("buckets", metric.name, f"has the boundaries {found}")


def _are_close(left: tuple[float, ...], right: tuple[float, ...]) -> bool:
    """Whether the boundaries are the same but for the last digit of a double."""
    return len(left) == len(right) and all(abs(a - b) <= 1e-9 * b for a, b in zip(left, right, strict=True))
