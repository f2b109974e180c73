"""A real agent on a real model, traced, judged and reported: what `make demo` runs.

A small shop asks SmolLM2-135M, on this machine's CPU, what its customers have to pay. The model is small: it
looks up one price well, and where it takes two it likes to ask for the first one again. The line to the price list
drops now and then, so a look-up is tried once more. The report says what a right answer costs, and what was retried
and repeated on the way.

The same orders are worked off twice, by an agent whose model keeps its keys and values in full and by one that keeps
2 bits of most of them, so that the report has both side by side.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
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
AGENTS: dict[Literal["full", "oscar"], str] = {"full": "shop assistant", "oscar": "shop assistant, 2-bit cache"}
# Long enough that a cache of codes has something to do: it keeps the first 64 tokens and the newest 256 in full.
HOUSE_RULES = """You answer for a small shop that sells pens, books, lamps, chairs and desks. Look a price up before \
you name it; prices change, and nobody remembers them well.

The shop opens at nine and closes at six from Monday to Friday, and at one on Saturday. On Sunday it is shut. Orders \
that come in before noon are packed the same day. The van leaves at three, so whoever wants a desk on a Friday should \
say so by Wednesday. Pens and books go by post. Lamps travel in a box with straw around the bulb, and the bulb is \
packed by itself. Chairs are stacked four high and no higher. A desk comes in two parts, the top and the legs, with \
eight screws in a paper bag taped under the top; a customer who lost the bag gets another for nothing.

Things may come back within thirty days if they look as they did when they left. A book that was read is not a new \
book. A lamp that does not light is exchanged at once, and nobody asks why. Money is given back the way it came. \
Schools pay at the end of the month, and everybody else pays when they order. Nothing is sold on credit to a person \
whose last bill is still open.

When a customer is angry, first find out what was ordered and when. When a customer is in doubt, say what others \
bought for the same room. Be brief and kind. Write numbers in digits, with the dollars in front, and name the total \
that has to be paid."""


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
    """What this script counts by itself of one agent, to hold the report against."""

    tasks = successes = tokens = repeats = 0
    seconds = started = held_bytes = 0.0

    def on_chat_model_start(self, *_: Any, **__: Any) -> None:
        self.started = time.perf_counter()

    def on_llm_end(self, response: Any, **_: Any) -> None:
        self.seconds += time.perf_counter() - self.started
        message = response.generations[0][0].message
        self.tokens += message.usage_metadata["total_tokens"]
        self.held_bytes = max(self.held_bytes, message.response_metadata["kv_cache_bytes"])


def repeats(messages: list[AnyMessage]) -> int:
    """Tool calls that ask for what an earlier one asked for."""
    calls = [call for message in messages if isinstance(message, AIMessage) for call in message.tool_calls]
    return len(calls) - len({(call["name"], str(call["args"])) for call in calls})


def work(count: int, kv_cache: Literal["full", "oscar"]) -> OwnCount:
    own = OwnCount()
    model = ChatLocalLLM(temperature=0, max_tokens=48, kv_cache=kv_cache)
    try_twice = ToolRetryMiddleware(max_retries=1, retry_on=(ConnectionError,), initial_delay=0)
    middleware = [TokenomicsMiddleware(), try_twice, look_up_then_answer]
    name = AGENTS[kv_cache]
    agent = create_agent(model, [total_price], system_prompt=HOUSE_RULES, middleware=middleware, name=name)
    for number, (question, price) in enumerate(tqdm(orders(count), name, count, unit="task"), start=1):
        with tokenomics_plugin.task(f"order-{number:02}-{kv_cache}", value="0.01") as task:
            result = agent.invoke({"messages": [HumanMessage(question)]}, {"callbacks": [own]})
            own.repeats += repeats(result["messages"])
            named = re.findall(r"\d+", result["messages"][-1].text.replace(",", ""))
            if named and int(named[-1]) == price:
                task.succeed(evaluator="price list")
                own.successes += 1
            else:
                task.fail(evaluator="price list")
        own.tasks += 1
    return own


def agrees(summary: Summary, counts: Mapping[str, OwnCount]) -> bool:
    """Whether the report says what the script counted of each agent; money within 2 %, as two clocks allow."""
    same = True
    reported = {agent.name: agent for agent in summary.agents}
    for name, own in counts.items():
        agent = reported[name]
        successes = int(agent.success_rate.numerator)  # there is no estimate of a few tasks
        cost, own_cost = agent.spend.cost_usd or Decimal(0), USD_PER_HOUR * Decimal(own.seconds) / 3600
        print(
            f"\n{name + ', ' + format(own.held_bytes / 1e6, '.1f') + ' MB of cache':42}{'report':>12}{'own count':>12}"
        )
        same &= say("tasks", agent.tasks, own.tasks)
        same &= say("successes", successes, own.successes)
        same &= say("tokens", agent.spend.tokens.total, own.tokens)
        same &= say("cost, USD", f"{cost:.6f}", f"{own_cost:.6f}", near=abs(cost - own_cost) <= own_cost / 50)
    (tools,) = (attempts for attempts in summary.conduct.attempts if attempts.subject is Subject.TOOL)
    print(f"\n{'both':42}{'report':>12}{'own count':>12}")
    same &= say("tasks", summary.coverage.tasks, sum(own.tasks for own in counts.values()))
    same &= say("tokens", summary.total.tokens.total, sum(own.tokens for own in counts.values()))
    same &= say("retries", tools.replaced.spans, line.drops)
    same &= say("repeats", summary.conduct.repeated_tool_calls, sum(own.repeats for own in counts.values()))
    return same


def say(name: str, reported: object, counted: object, *, near: bool | None = None) -> bool:
    """Print a figure twice; whether both are the same, or near enough."""
    same = reported == counted if near is None else near
    print(f"{name:42}{reported!s:>12}{counted!s:>12}  {'agree' if same else 'DIFFER'}")
    return same


def main(count: int) -> None:
    DB.unlink(missing_ok=True)
    shutil.rmtree(f"{DB}.journal", ignore_errors=True)  # left by a run that was interrupted
    with Collector(CollectorConfig(db=DB, http_port=0, grpc_port=0)) as addresses:
        telemetry = tokenomics_plugin.configure(service_name="shop", endpoint=f"http://{addresses.http}")
        counts = {name: work(count, kv_cache) for kv_cache, name in AGENTS.items()}
        telemetry.shutdown()  # sends what is buffered; leaving the collector stores what it has received
    # What a tool does to the world is not in a trace: declared as reading, a look-up that is repeated is waste.
    looks_up = SideEffects(read={"total_price"})
    report = make_report(DB, PriceBook.from_toml(PRICE_BOOK), side_effects=looks_up)
    write_report(report.only("finance"), "text", "-")
    write_report(report, "html", "report.html")
    if not agrees(report.summary, counts):
        sys.exit("the report and the script's own count differ")
    prices = os.path.relpath(PRICE_BOOK)
    print("\nOpen report.html next: it has the pages for engineers too. Live, with lists and traces to look into:")
    print(f"  .venv/bin/tokenomics collect --db {DB} --prices {prices}    # then open http://127.0.0.1:4318")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 12)
