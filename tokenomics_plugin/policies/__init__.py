"""Policies that watch calls, and stop them once they are told to: budgets, caps, loop breakers, memory, experiments.

Each is a `CallPolicy`, knows nothing of any framework, and starts in shadow mode: it changes nothing, and the decision
that it would have taken is recorded on the call's span. `replay` puts logged calls to a policy that has never run.
"""

from tokenomics_plugin.policies.budget import BudgetPolicy
from tokenomics_plugin.policies.composition import Policies
from tokenomics_plugin.policies.explore import Explore, RegretPlan
from tokenomics_plugin.policies.logged_decisions import LoggedDecision, randomised_decisions
from tokenomics_plugin.policies.loop_breaker import LoopBreaker
from tokenomics_plugin.policies.memo_tools import MemoTools
from tokenomics_plugin.policies.replay import first_refusal, logged_calls, replay
from tokenomics_plugin.policies.retry_cap import RetryCap

__all__ = [
    "BudgetPolicy",
    "Explore",
    "LoggedDecision",
    "LoopBreaker",
    "MemoTools",
    "Policies",
    "RegretPlan",
    "RetryCap",
    "first_refusal",
    "logged_calls",
    "randomised_decisions",
    "replay",
]
