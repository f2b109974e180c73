"""A checker of the rules of the GenAI conventions, and of ours for what the conventions have no name for.

It is written from the text of the conventions (the commit that `tokenomics_plugin.semconv` names), and knows
nothing of how spans come about: it imports no module of ours, so that a wrong constant there is found here.
"""

from __future__ import annotations

from conventions.findings import Finding, Level
from conventions.logs import violations_of_log
from conventions.metrics import violations_of_metric
from conventions.spans import violations_of_span
from conventions.tables import OWN_ATTRIBUTES

__all__ = [
    "OWN_ATTRIBUTES",
    "Finding",
    "Level",
    "violations_of_log",
    "violations_of_metric",
    "violations_of_span",
]
