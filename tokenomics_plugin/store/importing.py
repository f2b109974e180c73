"""Reading files of lines into a store: OTLP JSON, as our exporter and the Collector's file exporter write it.

A file is read a line at a time and loaded a few MiB a transaction. Loading is idempotent, so an import
that was interrupted is simply run again. Other formats bring their own way from a line to requests, and go
through the same loop.
"""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final, cast

from google.protobuf.message import Message

from tokenomics_plugin.errors import MalformedLineError
from tokenomics_plugin.otlp_json import Signal, parse_line
from tokenomics_plugin.store.payload import LoadCounts, Payload
from tokenomics_plugin.store.trace_store import TraceStore
from tokenomics_plugin.store.validation import check_request, explain

__all__ = ["MAX_LINE_BYTES", "BadLine", "ImportResult", "Requests", "import_lines", "import_otlp_json"]

MAX_LINE_BYTES: Final = 64 * 2**20
"""Longest line that is read into memory."""
Requests = Iterable[tuple[Signal, Message]]
"""What one line carries."""
_BATCH_BYTES: Final = 16 * 2**20
_SKIPPED_BYTES: Final = 2**20
_MAX_BAD_LINES: Final = 1000
_BOM: Final = b"\xef\xbb\xbf"
_GZIP_MAGIC: Final = b"\x1f\x8b"
_NOT_JSON: Final = (json.JSONDecodeError, UnicodeDecodeError)


@dataclass(frozen=True, kw_only=True)
class BadLine:
    """A line of which not everything could be stored."""

    number: int
    """Line in the file, from 1."""
    reason: str
    """What is wrong with it."""


@dataclass(frozen=True, kw_only=True)
class ImportResult:
    """What an import stored, and what it could not."""

    counts: LoadCounts
    """What became of the items."""
    bad_lines: tuple[BadLine, ...] = ()
    """The first lines with something wrong; memory is not spent on more than a thousand."""
    bad_line_count: int = 0
    """Lines with something wrong, all of them."""
    notes: Counter[str] = field(default_factory=Counter)
    """What was read in a way that a reader of the file might not expect -> how often."""

    def summary(self) -> str:
        """The result in one line."""
        counts = self.counts
        parts = (
            f"{counts.spans} spans, {counts.logs} logs, {counts.metric_points} metric points new",
            f"{counts.duplicates} there already",
            f"{self.bad_line_count} bad lines" if self.bad_line_count else "",
        )
        return "; ".join(part for part in parts if part)


def import_otlp_json(store: TraceStore, file: BinaryIO, *, max_line_bytes: int = MAX_LINE_BYTES) -> ImportResult:
    """Load OTLP JSON lines, of any signals, plain or gzipped.

    Blank lines, CRLF and a byte order mark are fine. A line that cannot be read, or holds items that cannot
    be stored, is named in the result, and everything else goes in.

    Args:
        store: Where to.
        file: Open for reading bytes; need not be seekable.
        max_line_bytes: Longest line that is read into memory.

    Raises:
        StoreError: If the store cannot be written; what was loaded until then stays.
    """
    return import_lines(store, file, lambda line: (parse_line(line),), max_line_bytes=max_line_bytes)


def import_lines(
    store: TraceStore,
    file: BinaryIO,
    read: Callable[[bytes], Requests],
    *,
    max_line_bytes: int = MAX_LINE_BYTES,
) -> ImportResult:
    """Load lines of any format; all else is as in `import_otlp_json`.

    Args:
        store: Where to.
        file: Open for reading bytes; need not be seekable.
        read: From a line to what it carries. A `MalformedLineError` rejects the line and is named in the result.
        max_line_bytes: Longest line that is read into memory.

    Raises:
        StoreError: If the store cannot be written; what was loaded until then stays.
    """
    counts, bad = LoadCounts(), _BadLines()
    for batch in _batches(_payloads(_lines(_plain(file), bad, max_line_bytes), read, bad)):
        counts += store.load(batch)
    return ImportResult(counts=counts, bad_lines=tuple(bad.first), bad_line_count=bad.count)


@dataclass
class _BadLines:
    first: list[BadLine] = field(default_factory=list)
    count: int = 0

    def add(self, number: int, reason: str) -> None:
        self.count += 1
        if len(self.first) < _MAX_BAD_LINES:
            self.first.append(BadLine(number=number, reason=reason))


def _plain(file: BinaryIO) -> io.BufferedIOBase:
    """The file without its compression, if it has one; its name does not matter."""
    buffered: io.BufferedReader = file if isinstance(file, io.BufferedReader) else io.BufferedReader(cast(Any, file))
    is_gzip = buffered.peek(len(_GZIP_MAGIC)).startswith(_GZIP_MAGIC)
    return gzip.GzipFile(fileobj=buffered) if is_gzip else buffered


def _payloads(
    lines: Iterator[tuple[int, bytes]], read: Callable[[bytes], Requests], bad: _BadLines
) -> Iterator[Payload]:
    for number, line in lines:
        try:
            requests = read(line)
        except MalformedLineError as error:
            is_torn = not line.endswith(b"\n") and isinstance(error.__cause__, _NOT_JSON)
            bad.add(number, f"the file ends within this line: {error}" if is_torn else str(error))
            continue
        for signal, request in requests:
            if rejected := check_request(signal, request):
                bad.add(number, explain(rejected))
            yield Payload(signal, request.SerializeToString())


def _lines(file: io.BufferedIOBase, bad: _BadLines, max_line_bytes: int) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, with their numbers."""
    number = 0
    try:
        while line := file.readline(max_line_bytes + 1):
            number += 1
            if len(line) > max_line_bytes:
                bad.add(number, f"longer than {max_line_bytes} bytes")
                _skip_line(file, line)
                continue
            text = line.removeprefix(_BOM) if number == 1 else line
            if text.strip():
                yield number, text
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        bad.add(number + 1, f"the compressed data is damaged or cut off: {error}")


def _skip_line(file: io.BufferedIOBase, line: bytes) -> None:
    while line and not line.endswith(b"\n"):
        line = file.readline(_SKIPPED_BYTES)


def _batches(payloads: Iterator[Payload]) -> Iterator[list[Payload]]:
    batch: list[Payload] = []
    size = 0
    for payload in payloads:
        batch.append(payload)
        size += len(payload.body)
        if size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
