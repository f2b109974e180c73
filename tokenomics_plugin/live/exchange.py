"""What the server and the analyst's process say to each other, one JSON document a line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

__all__ = ["Answer", "Question", "Settings"]

HTML = "text/html; charset=utf-8"
JSON = "application/json"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the analyst works on."""

    db: str
    """The store."""
    prices: str | None = None
    """Price book, TOML; `None` for list prices."""

    @classmethod
    def of(cls, db: Path, prices: Path | None) -> Settings:
        """Settings with paths that hold in any folder."""
        return cls(db=str(db.absolute()), prices=None if prices is None else str(prices.absolute()))

    def line(self) -> str:
        """As the process is told them."""
        return json.dumps(asdict(self))


@dataclass(frozen=True, kw_only=True)
class Question:
    """A view that somebody asked for."""

    number: int
    """Tells answers apart."""
    view: str
    """`finance`, `runs`, `trace`…"""
    subject: str = ""
    """What it is about: the id of a trace."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """Filters, as typed."""
    is_json: bool = False
    """Whether a program asks."""

    def line(self) -> str:
        """As it is sent."""
        return json.dumps(asdict(self)) + "\n"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A view, ready to be sent."""

    number: int
    """The question's."""
    status: int
    """HTTP status."""
    body: str
    """HTML or JSON."""
    is_json: bool = False
    """Which of them."""

    @property
    def media_type(self) -> str:
        """Content type of the body."""
        return JSON if self.is_json else HTML

    def line(self) -> str:
        """As it is sent."""
        return json.dumps(asdict(self)) + "\n"
