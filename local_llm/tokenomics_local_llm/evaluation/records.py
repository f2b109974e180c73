"""What an evaluation has measured so far: one JSON line each, so that a run that was killed goes on after the last.

A record belongs to a study, named by a digest of its model, texts and settings. Records of other studies may lie in
the same file and are passed over; so is a line that a kill cut short.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["Records"]

Json = dict[str, Any]


class Records:
    """The measurements of one study.

    Args:
        path: The file; `None` keeps them in memory only.
        study: Which of the file's records count.
    """

    def __init__(self, path: Path | None, study: str) -> None:
        self._path = path
        self._study = study
        self._found: dict[tuple[str, ...], Json] = {}
        for record in _lines(path):
            if record.get("study") == study:
                self._found[tuple(record["of"])] = record["figures"]

    def __getitem__(self, of: tuple[str, ...]) -> Json:
        return self._found[of]

    def __contains__(self, of: object) -> bool:
        return of in self._found

    def add(self, of: tuple[str, ...], figures: Json) -> None:
        """Keep the figures of a measurement, on disk before it returns."""
        self._found[of] = figures
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        cut_short = self._path.is_file() and self._path.read_bytes()[-1:] not in (b"", b"\n")
        with self._path.open("a", encoding="utf-8") as file:
            line = json.dumps({"study": self._study, "of": of, "figures": figures})
            file.write(f"{chr(10) * cut_short}{line}\n")


def _lines(path: Path | None) -> list[Json]:
    if path is None or not path.is_file():
        return []
    return [record for line in path.read_text(encoding="utf-8").splitlines() if (record := _record(line))]


def _record(line: str) -> Json | None:
    try:
        record: Json = json.loads(line)
    except ValueError:
        return None
    return record
