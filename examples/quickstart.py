"""A real agent on a real model, traced, judged and reported: what `make demo` runs.

A small shop asks SmolLM2-135M, on this machine's CPU, what its customers have to pay. The model is small: it
looks up one price well, and where it takes two it likes to ask for the first one again. The line to the price list
drops now and then, so a look-up is tried once more. The report says what a right answer costs, and what was retried
and repeated on the way.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from langchain.agents import create_agent
from langchain.agents.middleware import ModelRequest, ToolRetryMiddleware, wrap_model_call
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from tqdm import tqdm

import tokenomics_plugin
from tokenomics_langchain import ChatLocalLLM, TokenomicsMiddleware
from tokenomics_plugin.collector import Collector, CollectorConfig
from tokenomics_plugin.pages import make_report, write_report
from tokenomics_plugin.pricing import PriceBook
from tokenomics_plugin.report import Subject, Summary
from tokenomics_plugin.trajectory import SideEffects

DB = Path("demo.duckdb")
PRICE_BOOK = Path(__file__).with_name("prices.toml")  # what this machine costs an hour
USD_PER_HOUR = Decimal("0.08")  # the same, for the script's own count
PRICES = {"pen": 3, "book": 12, "lamp": 25, "chair": 40, "desk": 110}


class Line:
    """The line to the price list. One look-up in seven drops, and gets through when it is tried again."""

    lookups = drops = 0

    def connect(self) -> None:
        self.lookups += 1
        if self.lookups % 7 == 4:
            self.drops += 1
            raise ConnectionError("the price list did not answer")


line = Line()


@tool
def total_price(item: Literal["pen", "book", "lamp", "chair", "desk"], quantity: int) -> int:
    """Price in dollars of a quantity of one item."""
    line.connect()
    return PRICES[item] * quantity


@wrap_model_call
def look_up_then_answer(request: ModelRequest, handler: Callable[[ModelRequest], Any]) -> Any:
    """Force a tool call for each item, then an answer in words."""
    items = 2 if "together" in request.messages[0].text else 1
    lookups = sum(isinstance(message, ToolMessage) for message in request.messages)
    return handler(request.override(tools=[]) if lookups >= items else request.override(tool_choice="any"))


def orders(count: int) -> Iterator[tuple[str, int]]:
    """Questions with their right answers."""
    draw = random.Random(7)
    for number in range(count):
        quantity, item = draw.randint(2, 20), draw.choice(["pen", "book", "lamp", "desk"])
        price = quantity * PRICES[item]
        yield (
            (f"How much do {quantity} {item}s cost?", price),
            (f"I have {draw.randint(100, 900)} dollars and want {quantity} {item}s. How much do they cost?", price),
            (f"How much do {quantity} {item}s and 2 chairs cost together?", price + 2 * PRICES["chair"]),
        )[number % 3]


class OwnCount(BaseCallbackHandler):
    """What this script counts by itself, to hold the report against."""

    tasks = successes = tokens = repeats = 0
    seconds = started = 0.0

    def on_chat_model_start(self, *_: Any, **__: Any) -> None:
        self.started = time.perf_counter()

    def on_llm_end(self, response: Any, **_: Any) -> None:
        self.seconds += time.perf_counter() - self.started
        self.tokens += response.generations[0][0].message.usage_metadata["total_tokens"]


def repeats(messages: list[AnyMessage]) -> int:
    """Tool calls that ask for what an earlier one asked for."""
    calls = [call for message in messages if isinstance(message, AIMessage) for call in message.tool_calls]
    return len(calls) - len({(call["name"], str(call["args"])) for call in calls})


def work(count: int, own: OwnCount) -> None:
    model = ChatLocalLLM(temperature=0, max_tokens=48)
    try_twice = ToolRetryMiddleware(max_retries=1, retry_on=(ConnectionError,), initial_delay=0)
    middleware = [TokenomicsMiddleware(), try_twice, look_up_then_answer]
    agent = create_agent(model, tools=[total_price], middleware=middleware, name="shop-assistant")
    for number, (question, price) in enumerate(tqdm(orders(count), total=count, unit="task"), start=1):
        with tokenomics_plugin.task(f"order-{number:02}", value="0.01") as task:
            result = agent.invoke({"messages": [HumanMessage(question)]}, {"callbacks": [own]})
            own.repeats += repeats(result["messages"])
            named = re.findall(r"\d+", result["messages"][-1].text.replace(",", ""))
            if named and int(named[-1]) == price:
                task.succeed(evaluator="price list")
                own.successes += 1
            else:
                task.fail(evaluator="price list")
        own.tasks += 1


def agrees(summary: Summary, own: OwnCount) -> bool:
    """Whether the report says what the script counted; money within 2 %, as two clocks allow."""
    tokens, cost = summary.total.tokens.total, summary.total.cost_usd or Decimal(0)
    own_cost = USD_PER_HOUR * Decimal(own.seconds) / 3600
    succeeded = sum(status.tasks for status in summary.statuses if status.status == "succeeded")
    (tools,) = (attempts for attempts in summary.conduct.attempts if attempts.subject is Subject.TOOL)
    retried, repeated = tools.replaced.spans, summary.conduct.repeated_tool_calls
    rows = (
        ("tasks", summary.coverage.tasks, own.tasks, summary.coverage.tasks == own.tasks),
        ("successes", succeeded, own.successes, succeeded == own.successes),
        ("tokens", tokens, own.tokens, tokens == own.tokens),
        ("retries", retried, line.drops, retried == line.drops),
        ("repeats", repeated, own.repeats, repeated == own.repeats),
        ("cost, USD", f"{cost:.6f}", f"{own_cost:.6f}", abs(cost - own_cost) <= own_cost / 50),
    )
    print(f"\n{'':12}{'report':>12}{'own count':>12}")
    for name, reported, counted, same in rows:
        print(f"{name:12}{reported:>12}{counted:>12}  {'agree' if same else 'DIFFER'}")
    return all(same for *_, same in rows)


def main(count: int) -> None:
    DB.unlink(missing_ok=True)
    shutil.rmtree(f"{DB}.journal", ignore_errors=True)  # left by a run that was interrupted
    own = OwnCount()
    with Collector(CollectorConfig(db=DB, http_port=0, grpc_port=0)) as addresses:
        telemetry = tokenomics_plugin.configure(service_name="shop", endpoint=f"http://{addresses.http}")
        work(count, own)
        telemetry.shutdown()  # sends what is buffered; leaving the collector stores what it has received
    # What a tool does to the world is not in a trace: declared as reading, a look-up that is repeated is waste.
    looks_up = SideEffects(read={"total_price"})
    report = make_report(DB, PriceBook.from_toml(PRICE_BOOK), side_effects=looks_up)
    write_report(report.only("finance"), "text", "-")
    write_report(report, "html", "report.html")
    if not agrees(report.summary, own):
        sys.exit("the report and the script's own count differ")
    prices = os.path.relpath(PRICE_BOOK)
    print("\nOpen report.html next: it has the pages for engineers too. Live, with lists and traces to look into:")
    print(f"  .venv/bin/tokenomics collect --db {DB} --prices {prices}    # then open http://127.0.0.1:4318")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 36)
