"""Policies that come with this package: budgets, loop breakers, retry caps, memory of pure tools, experiments.

Each is a `policy.CallPolicy`, free of any framework. All begin in shadow mode: they record what they would have done,
on the spans of the agents that they would have done it to, and change nothing until told to enforce.
"""

from tokenomics_plugin.policies.budget import BudgetPolicy
from tokenomics_plugin.policies.composition import AllOf
from tokenomics_plugin.policies.explore import Explore
from tokenomics_plugin.policies.loop_breaker import LoopBreaker
from tokenomics_plugin.policies.memo import MemoTools
from tokenomics_plugin.policies.retry_cap import RetryCap

__all__ = ["AllOf", "BudgetPolicy", "Explore", "LoopBreaker", "MemoTools", "RetryCap"]
