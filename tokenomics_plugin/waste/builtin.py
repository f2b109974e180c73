"""The detectors that come with this package, as its entry points name them."""

from __future__ import annotations

from typing import Final

from tokenomics_plugin.waste.branches import AbandonedBranch, UnusedStream
from tokenomics_plugin.waste.caching import MissedCache, StrandedRepetition
from tokenomics_plugin.waste.detector import Detector
from tokenomics_plugin.waste.duplicates import DuplicateModelCall, DuplicateRead
from tokenomics_plugin.waste.endings import FailedRunSpend, PostAnswerWork
from tokenomics_plugin.waste.expiry import ExpiredContextRent
from tokenomics_plugin.waste.loops import Loop
from tokenomics_plugin.waste.outputs import OverlongOutput
from tokenomics_plugin.waste.plans import DeadPlan
from tokenomics_plugin.waste.reflection import RedundantVerification, ReflectionWithoutChange
from tokenomics_plugin.waste.retries import ErrorRent, FallbackDoubleSpend, RetryAfterSameFailure

__all__ = ["BUILT_IN"]

BUILT_IN: Final[tuple[type[Detector], ...]] = (
    DuplicateRead,
    DuplicateModelCall,
    RetryAfterSameFailure,
    ErrorRent,
    Loop,
    AbandonedBranch,
    DeadPlan,
    StrandedRepetition,
    MissedCache,
    ExpiredContextRent,
    OverlongOutput,
    ReflectionWithoutChange,
    RedundantVerification,
    PostAnswerWork,
    FallbackDoubleSpend,
    UnusedStream,
    FailedRunSpend,
)
"""By id, which is also the name of the entry point."""
