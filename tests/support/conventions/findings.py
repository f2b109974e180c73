"""What the checker has to say."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Finding", "Level", "advice", "violation"]


class Level(StrEnum):
    """How bad it is, in the words of weaver's live check."""

    VIOLATION = "violation"
    """Something that the conventions require, or forbid."""
    ADVICE = "advice"
    """Something that they recommend."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One rule that something does not keep."""

    rule: str
    """The rule, in one word."""
    subject: str
    """The span, event or metric."""
    detail: str
    """What is wrong."""
    level: Level
    """How bad it is."""


def violation(rule: str, subject: str, detail: str) -> Finding:
    """Of what is required or forbidden."""
    return Finding(rule=rule, subject=subject, detail=detail, level=Level.VIOLATION)


def advice(rule: str, subject: str, detail: str) -> Finding:
    """Of what is recommended."""
    return Finding(rule=rule, subject=subject, detail=detail, level=Level.ADVICE)
