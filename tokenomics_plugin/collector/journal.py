"""The journal: what was acknowledged, on disk, until the store has it.

Append-only segment files of raw OTLP requests. A request is acknowledged after `fsync`, so it survives
`kill -9` and a power cut; the store, which is slow to open and may be locked by a reader, is not in the
way of an acknowledgement. A crash may leave half a record at a segment's end: that one was never
acknowledged, and reading stops there.

A record is a header (body length, CRC-32 of signal and body, signal) and the body, a serialized
`Export*ServiceRequest`.
"""

from __future__ import annotations

import fcntl
import os
import struct
import threading
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from tokenomics_plugin.collector.config import CollectorError
from tokenomics_plugin.otlp_json import Signal
from tokenomics_plugin.store import Payload

__all__ = ["Journal", "SegmentReader"]

_MAGIC = b"tokenomics-journal-1\n"
_HEADER = struct.Struct("<IIB")
_SIGNALS = tuple(Signal)
_SUFFIX = ".segment"


class Journal:
    """One folder of segments, held by one process.

    Appending and removing may run in different threads.
    """

    def __init__(self, folder: Path, *, segment_bytes: int) -> None:
        """Open the folder, creating it if need be; what a previous process left is sealed already.

        Args:
            folder: Where segments live; nothing else should.
            segment_bytes: Size after which appending goes on in a new segment.

        Raises:
            CollectorError: If another process holds the folder.
            OSError: If the folder cannot be created or read.
        """
        folder.mkdir(parents=True, exist_ok=True)
        _fsync_folder(folder.parent)
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._lock_file = _hold(folder / "lock")
        self._mutex = threading.Lock()
        self._sizes = {path: path.stat().st_size for path in sorted(folder.glob(f"*{_SUFFIX}"))}
        self._next_number = 1 + max((int(path.stem) for path in self._sizes), default=0)
        self._active: _Segment | None = None

    @property
    def backlog_bytes(self) -> int:
        """Bytes on disk that the store does not have yet."""
        # Without the mutex, which is held during fsync: the event loop asks on every request.
        return sum(list(self._sizes.values()))

    def append(self, payloads: Sequence[Payload]) -> None:
        """Write records and wait until they are on disk; one `fsync` for all of them.

        Raises:
            OSError: If they could not be written: the caller must not acknowledge them.
        """
        records = b"".join(_record(payload) for payload in payloads)
        with self._mutex:
            segment = self._active = self._active or self._create()
            try:
                segment.append(records)
            except OSError:
                # The kernel may have dropped the pages it failed to write, so this file is not trusted again.
                self._seal()
                raise
            self._sizes[segment.path] = segment.size
            if segment.size >= self._segment_bytes:
                self._seal()

    def seal(self) -> None:
        """Close the segment that is being written, so that it can be loaded."""
        with self._mutex:
            self._seal()

    def sealed(self) -> list[Path]:
        """The segments that are no longer written, oldest first."""
        with self._mutex:
            return [path for path in self._sizes if self._active is None or path != self._active.path]

    def remove(self, segment: Path) -> None:
        """Delete a sealed segment, which the store has."""
        segment.unlink(missing_ok=True)
        with self._mutex:
            self._sizes.pop(segment, None)

    def set_aside(self, segment: Path) -> Path:
        """Keep a segment that cannot be loaded out of the way, for a person to look at."""
        kept = segment.with_suffix(".unreadable")
        segment.rename(kept)
        with self._mutex:
            self._sizes.pop(segment, None)
        return kept

    def close(self) -> None:
        """Seal what is open and let go of the folder."""
        self.seal()
        self._lock_file.close()

    def _create(self) -> _Segment:
        path = self._folder / f"{self._next_number:012d}{_SUFFIX}"
        self._next_number += 1  # before the file: on a full disk the next attempt needs a new name
        return _Segment(path)

    def _seal(self) -> None:
        if self._active is not None:
            self._active.close()
            self._active = None


class _Segment:
    """The file that is being appended to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self._file = path.open("xb", buffering=0)

    def append(self, records: bytes) -> None:
        is_new = not self.size
        if is_new:
            records = _MAGIC + records
        try:
            _write_all(self._file, records)
            os.fsync(self._file.fileno())
            if is_new:
                _fsync_folder(self.path.parent)
        except OSError:
            self._file.truncate(self.size)
            raise
        self.size += len(records)

    def close(self) -> None:
        self._file.close()
        if not self.size:
            self.path.unlink()


class SegmentReader:
    """A segment's payloads, one in memory at a time.

    A record cut off by a crash ends it quietly: it was never acknowledged. One that is whole but wrong ends
    it too, and is told of in `damage`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.damage: str | None = None
        """After iteration: why it ended before the segment did, `None` when it did not."""

    def __iter__(self) -> Iterator[Payload]:
        with self._path.open("rb") as file:
            remaining = self._path.stat().st_size - len(_MAGIC)
            if file.read(len(_MAGIC)) != _MAGIC and remaining >= 0:
                self.damage = f"does not start with {_MAGIC!r}, so it is no segment"
                return
            while remaining >= _HEADER.size:
                length, checksum, signal = _HEADER.unpack(file.read(_HEADER.size))
                remaining -= _HEADER.size + length
                if remaining < 0:
                    return
                body = file.read(length)
                if signal >= len(_SIGNALS) or _checksum(signal, body) != checksum:
                    self.damage = f"the checksum of the record before byte {file.tell()} does not match"
                    return
                yield Payload(_SIGNALS[signal], body)


def _record(payload: Payload) -> bytes:
    signal = _SIGNALS.index(payload.signal)
    return _HEADER.pack(len(payload.body), _checksum(signal, payload.body), signal) + payload.body


def _checksum(signal: int, body: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(bytes((signal,))))


def _hold(path: Path) -> BinaryIO:
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise CollectorError(
            f"another collector holds {path.parent}: stop it, or choose another database file"
        ) from error
    return file


def _write_all(file: BinaryIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
