"""Opening the DuckDB file: created whole, locked by one writer at a time, with errors a user can act on.

DuckDB lets one process write or several read. Whoever finds the file taken tries again for a while,
because a collector holds it only while it loads.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeAlias

import duckdb

from tokenomics_plugin.errors import StoreError
from tokenomics_plugin.store import schema

__all__ = ["Settings", "errors_of", "open_database"]

Settings: TypeAlias = dict[str, str | bool | int | float | list[str]]
"""DuckDB's configuration, by name."""

_RETRY_S: Final = 0.01, 0.1
"""First and longest pause between attempts at a lock."""
_MAGIC: Final = slice(8, 12), b"DUCK"
"""Where a DuckDB file says that it is one (DuckDB, `src/storage/single_file_block_manager.cpp`)."""
_LOCKED: Final = ("Could not set lock", "used by another process")
"""What DuckDB says of a locked file, on POSIX and on Windows."""
_SETTINGS: Final[Settings] = {
    # For a foreign file DuckDB would look for an extension on the network.
    "autoload_known_extensions": False,
    "autoinstall_known_extensions": False,
    # At the default of 16 MiB each large load ends in a checkpoint, which writes the table's last rows again.
    "checkpoint_threshold": "64MiB",
}


@contextmanager
def errors_of(path: Path) -> Iterator[None]:
    """Have errors name the file, and DuckDB's be ours."""
    try:
        yield
    except (duckdb.Error, StoreError) as error:
        raise StoreError(f"{path}: {error}") from error


def open_database(path: Path, *, read_only: bool, lock_timeout_s: float, settings: Settings) -> Any:
    """A connection to a store of the current version; a missing one is created, unless `read_only`.

    Raises:
        StoreError: If it is missing, stays locked for `lock_timeout_s`, is no store, or of a newer version.
    """
    settings = settings | _SETTINGS
    with errors_of(path):
        if not path.exists():
            if read_only:
                raise StoreError("no such store; `tokenomics collect` or `tokenomics import` makes one")
            _create(path, settings)
        connection = _connect(path, read_only=read_only, lock_timeout_s=lock_timeout_s, settings=settings)
        try:
            schema.bring_up_to_date(connection, read_only=read_only)
        except BaseException:
            connection.close()
            raise
        return connection


def _create(path: Path, settings: Settings) -> None:
    """Make an empty store, all of it or nothing: DuckDB cannot open a file whose creation was interrupted."""
    try:
        with TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as folder:
            new = Path(folder, "new.duckdb")
            with duckdb.connect(str(new), config=settings) as connection:
                schema.create(connection)
            _publish(new, path)
    except OSError as error:
        raise StoreError(f"cannot be created: {error}") from error


def _publish(new: Path, path: Path) -> None:
    try:
        os.link(new, path)  # unlike a rename it fails if another process was faster, whose store is in use already
    except FileExistsError:
        pass
    except OSError:  # a file system without links
        new.rename(path)


def _connect(path: Path, *, read_only: bool, lock_timeout_s: float, settings: Settings) -> Any:
    deadline = time.monotonic() + lock_timeout_s
    pause, longest_pause = _RETRY_S
    while True:
        try:
            return duckdb.connect(str(path), read_only=read_only, config=settings)
        except duckdb.Error as error:
            holder = _holder(error)
            if holder is None:
                raise StoreError(_diagnosis(path, error)) from error
            if time.monotonic() >= deadline:
                raise StoreError(
                    f"{holder} has it open, still after {lock_timeout_s:g} s; wait for it to finish, or stop it"
                ) from error
        time.sleep(pause)
        pause = min(2 * pause, longest_pause)


def _holder(error: duckdb.Error) -> str | None:
    """Who keeps us from opening a file; `None` if that is not what is wrong."""
    message = str(error)
    if isinstance(error, duckdb.ConnectionException):
        return "this process"  # for writing as well as for reading, or with other settings
    if not any(sign in message for sign in _LOCKED):
        return None
    named = re.search(r"lock is held in (.+? \(PID \d+\))", message)
    return named[1] if named else "another process"


def _diagnosis(path: Path, error: duckdb.Error) -> str:
    position, magic = _MAGIC
    try:
        with path.open("rb") as file:
            is_duckdb = file.read(position.stop)[position] == magic
    except OSError:
        is_duckdb = True  # what kept us from reading it is what DuckDB says too
    return str(error) if is_duckdb else "not a DuckDB file; use another path"
