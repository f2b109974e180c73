"""Decoding under a grammar: at each step only the tokens that the grammar allows may be chosen.

The grammars are llguidance's (https://github.com/guidance-ai/llguidance). It works on bytes, so a tokenizer's
merges may cross the grammar's parts, and it knows the tokens that are forced: those are taken as they are, and
the model reads them in one pass instead of proposing them one by one.
"""

from __future__ import annotations

from typing import Final
from weakref import WeakKeyDictionary

import llguidance.hf
import torch
from llguidance import LLMatcher, LLTokenizer
from torch import Tensor

from tokenomics_local_llm.errors import UnsupportedSchemaError
from tokenomics_local_llm.model import LocalModel

__all__ = ["Constraint"]

# Half a second each to make; they go with their models.
_TOKENIZERS: Final[WeakKeyDictionary[LocalModel, LLTokenizer]] = WeakKeyDictionary()


class Constraint:
    """Where one text stands in its grammar.

    Args:
        model: The model whose tokens are constrained.
        grammar: In llguidance's variant of Lark.

    Raises:
        UnsupportedSchemaError: If the grammar is wrong, or holds a JSON schema that cannot be enforced.
    """

    def __init__(self, model: LocalModel, grammar: str) -> None:
        self._matcher = LLMatcher(_tokenizer(model), LLMatcher.grammar_from_lark(grammar), log_level=0)
        self._check()

    @property
    def finished(self) -> bool:
        """Whether the text is complete and nothing may follow."""
        return bool(self._matcher.is_stopped())

    def forced(self) -> list[int]:
        """Take the tokens that the grammar leaves no choice about."""
        tokens: list[int] = self._matcher.compute_ff_tokens()
        if tokens:
            self._consume(tokens)
        return tokens

    def allow(self, logits: Tensor) -> Tensor:
        """The logits, (V,), with -inf for every token that may not come next."""
        bias = bytearray(self._matcher.compute_logit_bias())  # one byte a token, 0 where it is forbidden
        self._check()
        return logits.masked_fill(torch.frombuffer(bias, dtype=torch.uint8) == 0, float("-inf"))

    def accept(self, token: int) -> None:
        """Take a token that `allow` left possible."""
        self._consume([token])

    def _consume(self, tokens: list[int]) -> None:
        self._matcher.consume_tokens(tokens)
        self._check()

    def _check(self) -> None:
        if self._matcher.is_error():
            reason = self._matcher.get_error().partition("\n")[0]  # the parser's whole state follows
            raise UnsupportedSchemaError(f"this grammar cannot be enforced, take the cause out of it: {reason}")


def _tokenizer(model: LocalModel) -> LLTokenizer:
    if model not in _TOKENIZERS:
        _TOKENIZERS[model] = llguidance.hf.from_tokenizer(model.tokenizer, n_vocab=model.vocabulary_size)
    return _TOKENIZERS[model]
