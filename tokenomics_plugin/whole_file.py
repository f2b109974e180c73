"""Files that are there whole or not at all, whenever the process that writes them is killed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["written_whole"]


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A file beside `path` to write to, which takes its place at the end; what fails leaves nothing behind.

    The folder is made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    half_written = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield half_written
        half_written.replace(path)
    finally:
        half_written.unlink(missing_ok=True)
