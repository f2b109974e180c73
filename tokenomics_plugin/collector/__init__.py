"""An OTLP collector for people who have none: HTTP and gRPC in, one DuckDB file out.

What is acknowledged is on disk; memory is bounded; a span that arrives twice is stored once. It needs a POSIX
system, for its file lock and its signals.
"""

from tokenomics_plugin.collector.collector import Addresses, Collector, run
from tokenomics_plugin.collector.config import CollectorConfig, CollectorError

__all__ = ["Addresses", "Collector", "CollectorConfig", "CollectorError", "run"]
