"""A real agent on a real model, traced, judged and reported: what `make demo` runs.

SmolLM2-135M does sums with a calculator, on this machine's CPU. It is a small model and gets some of them
wrong; the report says what a right answer costs.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from langchain.agents import create_agent
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.tools import tool
from tqdm import tqdm

import tokenomics_plugin
from tokenomics_langchain import ChatLocalLLM, TokenomicsCallbackHandler
from tokenomics_plugin.collector import Collector, CollectorConfig
from tokenomics_plugin.pricing import PriceBook
from tokenomics_plugin.report import Summary, summarize, write_report
from tokenomics_plugin.store import TraceStore

DB = Path("demo.duckdb")
PRICES = Path(__file__).with_name("prices.toml")
USD_PER_HOUR = Decimal("0.08")  # as in prices.toml
VALUE_USD = "0.01"  # what a right answer is worth to us


@dataclass(frozen=True)
class Sum:
    """A task whose right answer is known."""

    kind: str
    question: str
    answer: int


@tool
def calculator(a: int, operation: str, b: int) -> int:
    """Work out `a operation b`, where operation is one of + - *."""
    return {"+": a + b, "-": a - b, "*": a * b}[operation]


def sums(count: int) -> Iterator[Sum]:
    draw = random.Random(7)
    for number in range(count):
        a, b = draw.randint(2, 99), draw.randint(2, 99)
        yield (
            Sum("add", f"Ann has {a} apples and buys {b} more. How many has she now?", a + b),
            Sum("subtract", f"A shop had {a + b} books and sold {b}. How many are left?", a),
            Sum("multiply", f"A box holds {a} pens. How many pens are in {b} boxes?", a * b),
        )[number % 3]


class OwnCount(BaseCallbackHandler):
    """What this script counts by itself, to hold the report against."""

    tasks = successes = tokens = 0
    seconds = 0.0

    def on_chat_model_start(self, *_: Any, **__: Any) -> None:
        self._started = time.perf_counter()

    def on_llm_end(self, response: Any, **_: Any) -> None:
        self.seconds += time.perf_counter() - self._started
        self.tokens += response.generations[0][0].message.usage_metadata["total_tokens"]


def work(count: int, own: OwnCount) -> None:
    agent = create_agent(ChatLocalLLM(temperature=0, max_tokens=64), tools=[calculator], name="calculator-agent")
    callbacks = [TokenomicsCallbackHandler(), own]
    for number, problem in enumerate(tqdm(sums(count), total=count, unit="task")):
        with tokenomics_plugin.task(f"sum-{number:02}", value=VALUE_USD, group=problem.question) as task:
            result = agent.invoke({"messages": [("user", problem.question)]}, {"callbacks": callbacks})
            right = str(problem.answer) in result["messages"][-1].text
            task.succeed(evaluator="arithmetic") if right else task.fail(evaluator="arithmetic")
        own.tasks += 1
        own.successes += right


def main() -> None:
    DB.unlink(missing_ok=True)
    own = OwnCount()
    with Collector(CollectorConfig(db=DB, http_port=0, grpc_port=0)) as addresses:
        telemetry = tokenomics_plugin.configure(service_name="quickstart", endpoint=f"http://{addresses.http}")
        work(36, own)
        telemetry.shutdown()  # sends what is buffered; leaving the collector stores what it has received
    with TraceStore(DB, read_only=True) as store:
        summary = summarize(store, PriceBook.from_toml(PRICES))
    write_report(summary, "text", "-")
    write_report(summary, "html", "report.html")
