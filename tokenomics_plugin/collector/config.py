"""Where the collector listens, what it accepts and how much it may hold."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from tokenomics_plugin.errors import TokenomicsError

__all__ = ["CollectorConfig", "CollectorError"]

_MIB = 2**20


class CollectorError(TokenomicsError):
    """The collector cannot start: its address, its database or its settings are the reason."""


@dataclass(frozen=True, kw_only=True)
class CollectorConfig:
    """Settings of one collector. Bytes are counted after decompression unless a field says otherwise."""

    db: Path
    """DuckDB file that receives everything; its journal is the folder `<db>.journal` beside it."""
    host: str = "127.0.0.1"
    """Address to listen on. Off loopback a token is required."""
    http_port: int = 4318
    """Port of OTLP/HTTP; 0 takes a free one."""
    grpc_port: int = 4317
    """Port of OTLP/gRPC; 0 takes a free one."""
    token: str | None = field(default=None, repr=False)
    """Bearer token that every request must carry; `None` accepts any local process."""
    prices: Path | None = None
    """Price book (TOML) of the pages at the HTTP port; `None` for list prices."""
    max_body_bytes: int = 16 * _MIB
    """Largest request, as sent and decompressed; a larger one is refused for good."""
    max_nodes: int = 500_000
    """Most messages (spans, attributes, values...) in one request. Parsing an empty span takes 80 times its two
    bytes on the wire, so size alone does not bound memory."""
    max_in_flight_bytes: int = 64 * _MIB
    """Requests being received or written, all together; beyond it clients are told to retry."""
    max_backlog_bytes: int = 1024 * _MIB
    """Journal on disk that is not in the store yet; beyond it clients are told to retry."""
    segment_bytes: int = 16 * _MIB
    """Journal that is loaded in one go, at most about this much."""
    load_interval_s: float = 1.0
    """Pause between looks at the journal, seconds: the age of data in the store when there is little traffic."""
    request_timeout_s: float = 30.0
    """Time a client has to send one request, seconds."""
    retry_after_s: int = 1
    """When an overloaded collector asks clients to come back, seconds."""
    drain_timeout_s: float = 30.0
    """How long stopping waits for a locked store, seconds; then the journal keeps the rest for the next start."""

    def __post_init__(self) -> None:
        if self.token is None and not is_loopback(self.host):
            raise CollectorError(
                f"refusing to listen on {self.host} without a bearer token: anyone on the network could write to the "
                f"store; set a token, or listen on 127.0.0.1"
            )
        if self.token is not None and not (self.token.isascii() and self.token.isprintable() and self.token.strip()):
            raise CollectorError("token must be printable ASCII and not empty: it travels in an HTTP header")
        if self.max_in_flight_bytes < 2 * self.max_body_bytes:
            raise CollectorError(
                f"max_in_flight_bytes must hold one request twice, compressed and not: got {self.max_in_flight_bytes} "
                f"with max_body_bytes={self.max_body_bytes}"
            )

    @property
    def journal_folder(self) -> Path:
        """Where acknowledged requests wait for the store."""
        return self.db.with_name(self.db.name + ".journal")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address; a name other than localhost may lead anywhere."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
