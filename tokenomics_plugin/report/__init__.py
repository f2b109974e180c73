"""Reports: what was spent against what was achieved, as text, as JSON and as a page.

`summarize` computes one `Summary`; the views show it and compute nothing, so they cannot disagree.
"""

from tokenomics_plugin.report.attempts import AttemptKind, Attempts, Subject
from tokenomics_plugin.report.comparison import Change, Comparison, compare
from tokenomics_plugin.report.conduct import Answers, Conduct, Ending, Plans, Repeats, ToolErrors
from tokenomics_plugin.report.figure import Figure
from tokenomics_plugin.report.json_view import SCHEMA_VERSION, schema
from tokenomics_plugin.report.spend import Spend, Tokens
from tokenomics_plugin.report.summary import (
    AmountsByCurrency,
    Coverage,
    GroupSummary,
    PriceSources,
    StatusSummary,
    Summary,
    UnpricedCalls,
    summarize,
)
from tokenomics_plugin.report.task import TaskStatus, TaskSummary

__all__ = [
    "SCHEMA_VERSION",
    "AmountsByCurrency",
    "Answers",
    "AttemptKind",
    "Attempts",
    "Change",
    "Comparison",
    "Conduct",
    "Coverage",
    "Ending",
    "Figure",
    "GroupSummary",
    "Plans",
    "PriceSources",
    "Repeats",
    "Spend",
    "StatusSummary",
    "Subject",
    "Summary",
    "TaskStatus",
    "TaskSummary",
    "Tokens",
    "ToolErrors",
    "UnpricedCalls",
    "compare",
    "schema",
    "summarize",
]
