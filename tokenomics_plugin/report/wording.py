r"""Numbers and names as people read them, the same in every view for people.

Names come from traces, so from anybody: what would steer a terminal or a page, or hide what it says, is spelled out
instead (`\x1b`, `\u202e`).
"""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from tokenomics_plugin.report.spend import Spend
from tokenomics_plugin.report.summary import GroupSummary, UnpricedCalls

__all__ = [
    "NAMELESS_AGENT",
    "NAMELESS_MODEL",
    "NAMELESS_TOOL",
    "TOKEN_CLASS_NAMES",
    "UNKNOWN",
    "count",
    "counted",
    "group_name",
    "instant",
    "percent",
    "spend_cost",
    "spend_tokens",
    "usd",
    "visible",
]

UNKNOWN: Final = "unknown"
"""What a view says where the summary has `None`."""
NAMELESS_AGENT: Final = "(no agent)"
"""What calls outside any named agent are listed under."""
NAMELESS_MODEL: Final = "(no model)"
"""What calls without a model's name are listed under."""
NAMELESS_TOOL: Final = "(no tool)"
"""What executions without a tool's name are listed under."""
TOKEN_CLASS_NAMES: Final = {
    "input": "fresh input",
    "cache_write": "input written to cache",
    "cache_read": "input read from cache",
    "output": "output",
    "reasoning": "hidden reasoning",
}
"""Classes of tokens, in words."""

_MAX_NAME: Final = 200
_CONTROL_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})


def visible(text: str) -> str:
    """A name that is safe to print, on one line and of bearable length."""
    cut = text if len(text) <= _MAX_NAME else text[: _MAX_NAME - 1] + "…"
    return "".join(_spelled_out(character) for character in cut)


def count(number: int) -> str:
    """A count, with thousands apart."""
    return f"{number:,}"


def counted(number: int, noun: str) -> str:
    """A count of something whose plural ends in s."""
    return f"{count(number)} {noun}" if number == 1 else f"{count(number)} {noun}s"


def percent(share: float) -> str:
    """A share of one."""
    return f"{share:.1%}"


def usd(amount: Decimal | float) -> str:
    """Dollars: cents from one dollar on, three significant digits below."""
    number = float(amount)
    size, sign = abs(number), "-" if number < 0 else ""
    if size == 0:
        return "$0"
    if size >= 1:
        return f"{sign}${size:,.2f}"
    rounded = f"{size:.2e}"
    return f"{sign}${rounded if size < 1e-9 else format(Decimal(rounded), 'f')}"


def instant(unix_nano: int | None) -> str:
    """A time, in UTC to the minute."""
    if unix_nano is None:
        return UNKNOWN
    return datetime.fromtimestamp(unix_nano / 1e9, UTC).strftime("%Y-%m-%d %H:%M UTC")


def spend_cost(spend: Spend) -> str:
    """What was spent; at least how much, when not every call has a price."""
    if spend.cost_usd is not None:
        return usd(spend.cost_usd)
    return f"≥ {usd(spend.priced_cost_usd)}" if spend.priced_calls else UNKNOWN


def spend_tokens(spend: Spend) -> str:
    """Tokens that were used; at least how many, when not every call says."""
    if spend.calls_with_usage == spend.calls:
        return count(spend.tokens.total)
    return f"≥ {count(spend.tokens.total)}" if spend.calls_with_usage else UNKNOWN


def group_name(group: GroupSummary | UnpricedCalls, *, nameless: str) -> str:
    """An agent's, model's or tool's name, with the provider of a model; `nameless` where spans gave none."""
    name = nameless if group.name is None else visible(group.name)
    return name if group.provider is None else f"{name} ({visible(group.provider)})"


def _spelled_out(character: str) -> str:
    if unicodedata.category(character) not in _CONTROL_CATEGORIES:
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
