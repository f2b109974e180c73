"""A store, and what an importer put into it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tokenomics_plugin.fingerprint import FingerprintKeys
from tokenomics_plugin.importing import import_chat
from tokenomics_plugin.store import ImportResult, TraceStore

KEYS = FingerprintKeys(b"secret")


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "traces.duckdb"


@pytest.fixture
def store(db: Path) -> Iterator[TraceStore]:
    with TraceStore(db) as store:
        yield store


@pytest.fixture
def import_runs(store: TraceStore) -> Callable[..., ImportResult]:
    """Imports runs, given as what a line of a chat log says."""

    def import_runs(*runs: dict[str, Any]) -> ImportResult:
        lines = "".join(json.dumps(run) + "\n" for run in runs)
        return import_chat(store, io.BytesIO(lines.encode()), keys=KEYS)

    return import_runs


@pytest.fixture
def attributes(store: TraceStore, db: Path) -> Callable[[], dict[str, dict[str, str]]]:
    """The attributes of each span by its id, as anybody with DuckDB would ask; closes the store."""

    def attributes() -> dict[str, dict[str, str]]:
        store.close()
        with duckdb.connect(str(db), read_only=True) as connection:
            query = "SELECT SpanId, SpanAttributes FROM otel_traces ORDER BY Timestamp"
            return dict(connection.execute(query).fetchall())

    return attributes
