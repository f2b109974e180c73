"""What a policy that stops runs earlier would have saved and lost, exactly, from the runs that were logged.

A run that is stopped is a prefix of the run that was not, so the counterfactual is on the record: no model is called
and nothing is estimated but how the next runs will compare with these. The same holds for answers of pure reads that
are kept: the same state gives the same answer, and the run goes on as it did.
"""

from tokenomics_plugin.simulation.choice import Choice, choose_rule
from tokenomics_plugin.simulation.evaluation import PolicyResult, simulate, simulate_family
from tokenomics_plugin.simulation.failed_spend import FailedSpend, avoidable_failed_spend
from tokenomics_plugin.simulation.frontier import FrontierPoint, truncation_frontier
from tokenomics_plugin.simulation.improvement import Improvement, judge_improvement
from tokenomics_plugin.simulation.logged_run import NO_KEY, LoggedRun
from tokenomics_plugin.simulation.recommendation import (
    Configuration,
    Evidence,
    IdentificationClass,
    Recommendation,
    recommend,
)
from tokenomics_plugin.simulation.rules import (
    CallCap,
    CostBudget,
    Effect,
    LoopBreaker,
    MemoReads,
    RetryCap,
    Rule,
    StopAfterErrors,
)
from tokenomics_plugin.simulation.run_table import RunTable

__all__ = [
    "NO_KEY",
    "CallCap",
    "Choice",
    "Configuration",
    "CostBudget",
    "Effect",
    "Evidence",
    "FailedSpend",
    "FrontierPoint",
    "IdentificationClass",
    "Improvement",
    "LoggedRun",
    "LoopBreaker",
    "MemoReads",
    "PolicyResult",
    "Recommendation",
    "RetryCap",
    "Rule",
    "RunTable",
    "StopAfterErrors",
    "avoidable_failed_spend",
    "choose_rule",
    "judge_improvement",
    "recommend",
    "simulate",
    "simulate_family",
    "truncation_frontier",
]
