"""The analyst's process: reads questions, one a line, and writes each answer when it is there.

It ends at once when its input does, so also when the collector is killed.
"""

from __future__ import annotations

import html
import json
import logging
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from tokenomics_plugin.errors import MissingExtraError
from tokenomics_plugin.live.exchange import Answer, Question, Settings

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
    answer_to = _answerer(settings)

    def reply(question: Question) -> None:
        answer = answer_to(question).line()
        with writing:
            answers.write(answer)
            answers.flush()

    with ThreadPoolExecutor(_THREADS, thread_name_prefix="tokenomics-analyst") as threads:
        for line in sys.stdin:
            threads.submit(reply, Question(**json.loads(line)))
    os._exit(0)  # the collector is gone; what is being refreshed is done again by the next one


def _answerer(settings: Settings) -> Callable[[Question], Answer]:
    """What answers questions; without the extra that reports need, all it says is which one to install."""
    try:
        from tokenomics_plugin.live.analyst import Analyst
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("tokenomics"):
            raise
        sentence = str(MissingExtraError(error.name or "a module", extra="report"))
        return lambda question: Answer(number=question.number, status=501, body=html.escape(sentence))
    return Analyst(settings).answer
