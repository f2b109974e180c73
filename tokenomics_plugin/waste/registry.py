"""Which detectors there are, and running them all.

Detectors are found by entry point, ours like everybody's, so that a package that is installed beside this one adds
its own. Somebody else's detector may be broken: it is reported and left out, and the others go on.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Final

from tokenomics_plugin.trajectory import Trajectory
from tokenomics_plugin.waste.detector import Detector
from tokenomics_plugin.waste.finding import Finding

__all__ = ["ENTRY_POINT_GROUP", "Detectors", "Problem", "Scan", "find_detectors", "scan"]

ENTRY_POINT_GROUP: Final = "tokenomics_plugin.detectors"
"""The group of entry points that name detectors: classes that are built without arguments, or objects."""

_REQUIRED: Final = ("id", "name", "tier", "needs", "find")
_OURS: Final = f"{__package__}."
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """A detector that could not be used."""

    detector: str
    """Its entry point, or its id once it was loaded."""
    message: str
    """What went wrong, in a sentence."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Detectors:
    """What is installed."""

    found: tuple[Detector, ...] = ()
    """Those that can be used, by id; `D2` comes before `D10`."""
    problems: tuple[Problem, ...] = ()
    """Those that cannot."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scan:
    """What all detectors found in one trajectory."""

    findings: tuple[Finding, ...] = ()
    """By detector, in the order of the detectors."""
    problems: tuple[Problem, ...] = ()
    """Detectors that raised; nothing of theirs is among the findings."""


def find_detectors(*, replace: Iterable[Detector] = ()) -> Detectors:
    """The detectors that are installed.

    Args:
        replace: Detectors to use in the place of installed ones of the same id, such as
            `DuplicateRead(polling=frozenset({"get_job_status"}))`, or beside them.
    """
    found: dict[str, Detector] = {}
    problems: list[Problem] = []
    for entry in sorted(entry_points(group=ENTRY_POINT_GROUP), key=_ours_first):
        try:
            detector = _loaded(entry)
        except Exception as error:  # whatever somebody else's module raises when it is imported
            problems.append(_problem(entry.name, error))
            continue
        other = found.setdefault(detector.id, detector)
        # A distribution that is installed twice names the same class twice, which is no conflict.
        if type(other) is not type(detector):
            problems.append(_problem(entry.name, ValueError(f"the id {detector.id!r} is taken by {other.name!r}")))
    for problem in problems:
        _log.warning("waste detector %s is left out: %s", problem.detector, problem.message)
    found |= {detector.id: detector for detector in replace}
    return Detectors(found=tuple(sorted(found.values(), key=_by_number)), problems=tuple(problems))


def scan(trajectory: Trajectory, detectors: Sequence[Detector]) -> Scan:
    """Everything that detectors find in a trajectory.

    Args:
        trajectory: One task's work in one trace.
        detectors: As `find_detectors` gives them.
    """
    findings: list[Finding] = []
    problems: list[Problem] = []
    for detector in detectors:
        try:
            findings += list(detector.find(trajectory))
        except Exception as error:  # one detector's mistake must not cost the report
            problems.append(_problem(detector.id, error))
    return Scan(findings=tuple(findings), problems=tuple(problems))


def _loaded(entry: EntryPoint) -> Detector:
    loaded = entry.load()
    detector = loaded() if isinstance(loaded, type) else loaded
    missing = [name for name in _REQUIRED if not hasattr(detector, name)]
    if missing:
        raise TypeError(f"a detector has {', '.join(_REQUIRED)}; {entry.value} lacks {', '.join(missing)}")
    if not isinstance(detector.id, str) or not detector.id:
        raise TypeError(f"a detector's id must be text that is not empty, got {detector.id!r}")
    return detector  # type: ignore[no-any-return]  # an entry point may name anything; it was checked above


def _problem(detector: str, error: Exception) -> Problem:
    return Problem(detector=detector, message=f"{type(error).__name__}: {error}")


def _ours_first(entry: EntryPoint) -> tuple[bool, str, str]:
    return not entry.value.startswith(_OURS), entry.name, entry.value


def _by_number(detector: Detector) -> tuple[str, int, str]:
    letters = detector.id.rstrip("0123456789")
    digits = detector.id[len(letters) :]
    return letters, int(digits or 0), detector.id
