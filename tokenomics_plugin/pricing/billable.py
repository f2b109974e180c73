"""What a price book needs of a call, whether it is a span or a step of a trajectory."""

from __future__ import annotations

from decimal import Decimal
from typing import Protocol

from tokenomics_plugin.usage import TokenUsage

__all__ = ["Billable"]


class Billable(Protocol):
    """A model call that can be priced."""

    @property
    def operation(self) -> str | None:
        """`gen_ai.operation.name`."""
        ...

    @property
    def provider(self) -> str | None:
        """`gen_ai.provider.name`."""
        ...

    @property
    def request_model(self) -> str | None:
        """`gen_ai.request.model`."""
        ...

    @property
    def response_model(self) -> str | None:
        """`gen_ai.response.model`; its price counts first."""
        ...

    @property
    def start_unix_nano(self) -> int:
        """When the price counts, nanoseconds since the epoch."""
        ...

    @property
    def duration_nano(self) -> int | None:
        """How long it took; `None` when unknown."""
        ...

    @property
    def usage(self) -> TokenUsage | None:
        """Its tokens; `None` when nothing was reported."""
        ...

    @property
    def reported_cost_usd(self) -> Decimal | None:
        """What its log says that it cost; `None` when it does not."""
        ...

    @property
    def is_cache_hit(self) -> bool:
        """Whether the framework's own cache answered."""
        ...
