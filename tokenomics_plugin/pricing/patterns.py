"""Name patterns of a price book: any text for `*`, everything else as it is written.

Shell patterns have more, but a `[` or `?` in a model's name is a letter.
"""

from __future__ import annotations

import re
from functools import lru_cache

__all__ = ["literalness", "matches", "may_meet"]


def matches(pattern: str, name: str) -> bool:
    """Whether the pattern is about this name."""
    return _compile(pattern).fullmatch(name) is not None


def literalness(pattern: str) -> tuple[bool, int]:
    """How specific a pattern is: an exact name first, then by the number of literal characters."""
    return "*" not in pattern, len(pattern.replace("*", ""))


def may_meet(first: str, second: str) -> bool:
    """Whether some name matches both patterns."""
    # row[n]: what was read of `first` and the first n characters of `second` may match the same name.
    row = [not second[:size].strip("*") for size in range(len(second) + 1)]
    for mine in first:
        above, row = row, [row[0] and mine == "*"]
        for size, yours in enumerate(second, start=1):
            if "*" in (mine, yours):  # it stands for nothing here, or for one character more of the other
                row.append(above[size] or row[size - 1])
            else:
                row.append(above[size - 1] and mine == yours)
    return row[-1]


@lru_cache(maxsize=1024)
def _compile(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in pattern.split("*")), re.DOTALL)
