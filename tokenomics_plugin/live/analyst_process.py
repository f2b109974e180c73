"""The analyst's process: reads questions, one a line, and writes each answer when it is there.

It ends at once when its input does, so also when the collector is killed.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from tokenomics_plugin.live.analyst import Analyst
from tokenomics_plugin.live.exchange import Question, Settings

__all__ = ["main"]

_THREADS: Final = 4
_NICENESS: Final = 5
"""Spans are acknowledged and loaded first."""


def main() -> None:
    """Serve a collector, with `Settings` as the one argument."""
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    os.nice(_NICENESS)
    settings = Settings(**json.loads(sys.argv[1]))
    answers, writing = os.fdopen(os.dup(1), "w", encoding="utf-8"), threading.Lock()
    os.dup2(2, 1)  # whatever else prints to stdout, as DuckDB's progress bar does, must not pass for an answer
    analyst = Analyst(settings)

    def reply(question: Question) -> None:
        answer = analyst.answer(question).line()
        with writing:
            answers.write(answer)
            answers.flush()

    with ThreadPoolExecutor(_THREADS, thread_name_prefix="tokenomics-analyst") as threads:
        for line in sys.stdin:
            threads.submit(reply, Question(**json.loads(line)))
    os._exit(0)  # the collector is gone; what is being refreshed is done again by the next one
