"""What the next attempt, the next draft and the next check are worth, as against the average one.

Cost per success says what successes did cost; it never says whether to try again. These modules price the step that
has not been taken yet: attempt k, reached only after k - 1 failures, and the revision of a draft that existed.
"""

from tokenomics_plugin.marginal.attempt_limit import AttemptLimit, attempt_limit
from tokenomics_plugin.marginal.beta_binomial import BetaBinomial, fit_beta_binomial
from tokenomics_plugin.marginal.checkpoints import (
    Draft,
    DraftedTask,
    Flips,
    Revision,
    TrailingSpend,
    revision_value,
    trailing_spend,
)
from tokenomics_plugin.marginal.frontier import Contender, FrontierStep, TaskResult, cost_success_frontier
from tokenomics_plugin.marginal.hazard import AttemptChain, ChainEnd, hazard_curve
from tokenomics_plugin.marginal.retry_curve import Attempt, Forecast, RetryCurve
from tokenomics_plugin.marginal.trials import RepeatedTask, Trial, retry_curve

__all__ = [
    "Attempt",
    "AttemptChain",
    "AttemptLimit",
    "BetaBinomial",
    "ChainEnd",
    "Contender",
    "Draft",
    "DraftedTask",
    "Flips",
    "Forecast",
    "FrontierStep",
    "RepeatedTask",
    "RetryCurve",
    "Revision",
    "TaskResult",
    "TrailingSpend",
    "Trial",
    "attempt_limit",
    "cost_success_frontier",
    "fit_beta_binomial",
    "hazard_curve",
    "retry_curve",
    "revision_value",
    "trailing_spend",
]
