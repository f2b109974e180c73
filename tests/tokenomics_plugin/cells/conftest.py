"""Trajectories made by hand and at random, and prices that are easy to multiply."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import pytest
from hypothesis import settings

from tokenomics_plugin.context_blocks import Context, ContextBlock
from tokenomics_plugin.pricing import Price, PriceBook
from tokenomics_plugin.trajectory import ModelCall
from tokenomics_plugin.usage import TokenUsage

# A busy machine may stall any example for longer than Hypothesis allows it.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


class Make:
    """Builds what the tests fold."""

    @staticmethod
    def block(
        name: str,
        role: str = "user",
        *,
        size: int | None = None,
        tokens: int | None = None,
        producer: str | None = None,
    ) -> ContextBlock:
        return ContextBlock(hash=f"k:{name}", role=role, size=size, tokens=tokens, producer=producer)

    @staticmethod
    def call(
        span_id: str,
        context: Sequence[ContextBlock | None] | None,
        *,
        counts: tuple[int, int, int, int, int] | None,
        step_kind: str | None = None,
        model: str | None = "m",
        answer: str | None = None,
        seconds: int = 0,
    ) -> ModelCall:
        """A call with tokens as they are priced: fresh, written, read, visible, reasoning."""
        names = (
            "fresh_input_tokens",
            "cache_write_tokens",
            "cache_read_tokens",
            "visible_output_tokens",
            "reasoning_tokens",
        )
        resolved: Context | None = None if context is None else tuple(context)
        return ModelCall(
            span_id=span_id,
            agent="solver",
            provider="p",
            model=model,
            ended_unix_nano=seconds * 10**9,
            usage=None if counts is None else TokenUsage(**dict(zip(names, counts, strict=True))),  # type: ignore[arg-type]
            context=resolved,
            answer_hash=None if answer is None else f"k:{answer}",
            step_kind=step_kind,
        )


@pytest.fixture(scope="session")
def make() -> Make:
    return Make()


@pytest.fixture(scope="session")
def prices() -> PriceBook:
    """USD per million tokens: 3 in, 4 written, 1 read, 10 out, 20 of reasoning; model `hourly` 3.60 USD an hour."""
    by_class = {"input": 3, "cache_write": 4, "cache_read": 1, "output": 10, "reasoning": 20}
    rates = {name: Decimal(price) for name, price in by_class.items()}
    return PriceBook(
        [
            Price(provider="p", model="m*", **rates),  # type: ignore[arg-type]  # by their names
            Price(provider="p", model="hourly", usd_per_hour=Decimal("3.60")),
        ]
    )
