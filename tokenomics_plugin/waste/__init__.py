"""Waste: spend that bought nothing, with the evidence for it.

`find_detectors` gives the detectors that are installed, `scan` what they find in a trajectory. Each claims whole
calls, or blocks of context that calls carried, and says how strong its evidence is. What a trace does not show is no
finding. D6 to D8 of the catalogue need sketches of content, which spans do not carry. `tokenomics_plugin.waste.audit`
measures how much of what is claimed is wasted indeed.
"""

from tokenomics_plugin.waste.branches import AbandonedBranch, UnusedStream
from tokenomics_plugin.waste.caching import MissedCache, StrandedRepetition
from tokenomics_plugin.waste.detector import Detector, Need
from tokenomics_plugin.waste.duplicates import DuplicateModelCall, DuplicateRead
from tokenomics_plugin.waste.endings import FailedRunSpend, PostAnswerWork
from tokenomics_plugin.waste.expiry import ExpiredContextRent
from tokenomics_plugin.waste.finding import BlockRange, Finding, block_pairs
from tokenomics_plugin.waste.flagging import flags_of
from tokenomics_plugin.waste.loops import Loop
from tokenomics_plugin.waste.outputs import OverlongOutput
from tokenomics_plugin.waste.plans import DeadPlan
from tokenomics_plugin.waste.reflection import RedundantVerification, ReflectionWithoutChange
from tokenomics_plugin.waste.registry import (
    ENTRY_POINT_GROUP,
    Detectors,
    Problem,
    Scan,
    find_detectors,
    scan,
)
from tokenomics_plugin.waste.retries import ErrorRent, FallbackDoubleSpend, RetryAfterSameFailure

__all__ = [
    "ENTRY_POINT_GROUP",
    "AbandonedBranch",
    "BlockRange",
    "DeadPlan",
    "Detector",
    "Detectors",
    "DuplicateModelCall",
    "DuplicateRead",
    "ErrorRent",
    "ExpiredContextRent",
    "FailedRunSpend",
    "FallbackDoubleSpend",
    "Finding",
    "Loop",
    "MissedCache",
    "Need",
    "OverlongOutput",
    "PostAnswerWork",
    "Problem",
    "RedundantVerification",
    "ReflectionWithoutChange",
    "RetryAfterSameFailure",
    "Scan",
    "StrandedRepetition",
    "UnusedStream",
    "block_pairs",
    "find_detectors",
    "flags_of",
    "scan",
]
