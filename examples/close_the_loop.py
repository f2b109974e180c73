"""From traces to weights and back: an agent learns from those of its own runs that were worth their cost.

A small shop's agent looks up what customers have to pay. SmolLM2-135M finds one price well; where an order has two
lines it tends to ask for the first one again, though the shop's form tells what is missing. Seven steps, each what one
would type:

1. before     the agent prices the evaluation orders, and its outcomes are judged;
2. practise   other orders are tried at a temperature until one attempt is right, a few times at most;
3. export     `tokenomics dataset export` keeps the attempts that were right, the cheapest first;
4. finetune   `tokenomics-llm finetune` trains the model on them block by block, behind its gate;
5. calibrate  the tuned model's rotations of the 2-bit cache are fitted on those conversations;
6. after      the agent prices the same orders again, on the tuned model from its folder;
7. compare    `tokenomics report --compare` says what changed, task by task, with intervals.

`python examples/close_the_loop.py` runs offline in a quarter of an hour on two cores; everything it makes lies in
the folder `loop`. The last line of its output is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from langchain.agents import create_agent
from langchain.agents.middleware import ModelRequest, before_model, wrap_model_call
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from tqdm import tqdm

import tokenomics_plugin
from tokenomics_langchain import ChatLocalLLM, TokenomicsMiddleware
from tokenomics_plugin import semconv
from tokenomics_plugin.collector import Collector, CollectorConfig
from tokenomics_plugin.pricing import PriceBook
from tokenomics_plugin.report import Change, compare, summarize
from tokenomics_plugin.store import TraceStore

PRICE_BOOK = Path(__file__).with_name("prices.toml")  # what this machine costs an hour
PRICES = {"pen": 3, "book": 12, "lamp": 25, "chair": 40, "desk": 110}
VALUE = "0.01"  # USD that a priced order is worth

Line = tuple[str, int]


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a customer wants."""

    name: str
    """Its task."""
    lines: tuple[Line, ...]
    """Items, each with its quantity."""

    @property
    def question(self) -> str:
        """As the customer asks."""
        return f"How much do {in_words(self.lines)} cost{' together' if len(self.lines) > 1 else ''}?"

    def missing(self, found: Sequence[Line]) -> list[Line]:
        """The lines without a price."""
        return [line for line in self.lines if line not in found]


def in_words(lines: Sequence[Line]) -> str:
    return " and ".join(f"{quantity} {item}s" for item, quantity in lines)


def orders(count: int, *, first: int = 0) -> list[Order]:
    """A part of one long list without repetitions; every third order has one line, the others two."""
    draw, seen, made = random.Random(7), set[frozenset[Line]](), list[Order]()
    while len(made) < first + count:
        items = draw.sample(list(PRICES), 1 if len(made) % 3 == 0 else 2)
        lines = tuple((item, draw.randint(2, 20)) for item in items)
        if frozenset(lines) not in seen:
            seen.add(frozenset(lines))
            made.append(Order(name=f"order-{len(made):02}", lines=lines))
    return made[first:]


class Shop:
    """The agent: it looks prices up until each line of the order has one, with one look-up more than lines."""

    def __init__(self, model: BaseChatModel) -> None:
        self._order = Order(name="", lines=())
        self._found = list[Line]()
        self._seed = 0

        @tool
        def total_price(item: Literal["pen", "book", "lamp", "chair", "desk"], quantity: int) -> str:
            """Price in dollars of a quantity of one item."""
            self._found.append((item, quantity))
            missing = self._order.missing(self._found)
            price = f"{PRICES[item] * quantity} dollars."
            return f"{price} Now the price of {in_words(missing)}." if missing else price

        @before_model(can_jump_to=["end"])
        def until_all_have_a_price(state: Any, runtime: Any) -> dict[str, str] | None:
            is_over = not self._order.missing(self._found) or len(self._found) > len(self._order.lines)
            return {"jump_to": "end"} if is_over else None

        @wrap_model_call
        def look_up(request: ModelRequest, handler: Callable[[ModelRequest], Any]) -> Any:
            self._seed += 1  # another draw each time, and the same ones in the next run
            return handler(request.override(tool_choice="any", model_settings={"seed": self._seed}))

        middleware: Any = [TokenomicsMiddleware(), until_all_have_a_price, look_up]
        self._agent: Any = create_agent(model, tools=[total_price], middleware=middleware, name="shop-assistant")

    def prices(self, order: Order, task: str) -> bool:
        """Work on an order, and judge whether each of its lines was looked up."""
        self._order, self._found = order, []
        with tokenomics_plugin.task(task, value=VALUE, group=order.name) as judged:
            self._agent.invoke({"messages": [HumanMessage(order.question)]})
            is_right = not order.missing(self._found)
            judged.succeed(evaluator="order") if is_right else judged.fail(evaluator="order")
        return is_right


def work(model: BaseChatModel, todo: Sequence[Order], db: Path, *, attempts: int) -> None:
    """Try each order until it is right, at most so many times, and store the traces with what was said."""
    os.environ[semconv.CAPTURE_CONTENT_VARIABLE] = "SPAN_ONLY"
    shop = Shop(model)
    with Collector(CollectorConfig(db=db, http_port=0, grpc_port=0)) as addresses:
        telemetry = tokenomics_plugin.configure(service_name="shop", endpoint=f"http://{addresses.http}")
        right = 0
        with tqdm(todo, unit="order", desc=db.stem) as bar:
            for order in bar:
                names = [order.name] if attempts == 1 else [f"{order.name}#{number}" for number in range(attempts)]
                right += any(shop.prices(order, name) for name in names)
                bar.set_postfix(right=right)
        telemetry.shutdown()  # sends what is buffered; leaving the collector stores what it has received


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much of everything."""

    folder: Path
    """Where it all goes."""
    evaluate: int = 24
    """Orders that are priced before and after."""
    practise: int = 30
    """Orders to learn from."""
    attempts: int = 5
    """The most tries of one of those."""
    temperature: float = 0.6
    """Of the tries."""
    learn: int = 20
    """Tasks that are learned or held out: the most net value per token, so the dearest successes stay out."""
    steps: int = 2
    """Updates of each of the six blocks."""

    @property
    def before(self) -> Path:
        """What the evaluation orders took and brought at first."""
        return self.folder / "before.duckdb"

    @property
    def after(self) -> Path:
        """The same in the end."""
        return self.folder / "after.duckdb"

    @property
    def tuned(self) -> Path:
        """The folder of the tuned model."""
        return self.folder / "tuned"

    def stages(self) -> Iterator[tuple[str, list[str]]]:
        """Each step and its command; a process each, so that one model is in memory at a time."""
        this, module = [sys.executable, __file__, "work"], [sys.executable, "-m"]
        core, local = [*module, "tokenomics_plugin.cli"], [*module, "tokenomics_local_llm.cli"]
        practise, worth = str(self.folder / "practise.duckdb"), str(self.folder / "worth.jsonl")
        held_out, tuned = str(self.folder / "worth.held-out.jsonl"), str(self.tuned)
        prices, evaluate = ["--prices", str(PRICE_BOOK)], ["--orders", str(self.evaluate)]
        yield "before", [*this, str(self.before), *evaluate]
        tries = ["--attempts", str(self.attempts), "--temperature", str(self.temperature)]
        yield "practise", [*this, practise, "--first", str(self.evaluate), "--orders", str(self.practise), *tries]
        export = ["dataset", "export", "--db", practise, *prices, "--read-only-tool", "total_price"]
        yield "export", [*core, *export, "--held-out", "0.25", "--max-tasks", str(self.learn), worth]
        size = ["--blocks", "6", "--passes", "1", "--steps", str(self.steps), "--batch-size", "4", "--length", "384"]
        tune = ["finetune", "SmolLM2-135M-Instruct", worth, "--held-out", held_out, "-o", tuned]
        yield "finetune", [*local, *tune, *size, "--learning-rate", "3e-4"]
        yield "calibrate", [*local, "calibrate", tuned, "--text", worth, "--tokens", "4096"]
        yield "after", [*this, str(self.after), *evaluate, "--model", tuned, "--kv-cache", "oscar"]
        yield "compare", [*core, "report", "--db", str(self.after), "--compare", str(self.before), *prices]


def main(plan: Plan) -> None:
    shutil.rmtree(plan.folder, ignore_errors=True)
    plan.folder.mkdir(parents=True)
    seconds = {}
    for number, (stage, command) in enumerate(plan.stages(), start=1):
        print(f"\n{number}. {stage}", flush=True)
        started = time.perf_counter()
        subprocess.run(command, check=True)
        seconds[stage] = round(time.perf_counter() - started, 1)
    print(json.dumps(outcome(plan, seconds)))


def outcome(plan: Plan, seconds: dict[str, float]) -> dict[str, Any]:
    """What came out, for programs, whether it held or not."""
    from tokenomics_local_llm.diffusion_blocks.journal import Journal  # brings PyTorch, which is not needed before

    prices = PriceBook.from_toml(PRICE_BOOK)
    with TraceStore(plan.before, read_only=True) as before, TraceStore(plan.after, read_only=True) as after:
        comparison = compare(summarize(before, prices).tasks, summarize(after, prices).tasks)
    journal = Journal.load(plan.folder / "tuned.run" / "journal.json")
    gained = journal.base.held_out_loss - journal.best.held_out_loss
    changes = {change.kind.title: told(change) for change in comparison.changes}
    value = changes["Value per million standard tokens"]
    minutes = sum(seconds.values()) / 60
    checks = [
        ("orders compared", comparison.pairs, f"all {plan.evaluate}", comparison.pairs == plan.evaluate),
        ("held-out loss, base minus tuned", gained, "above 0", gained > 0),
        ("value per token, after over before", value["change"], "95% interval above 1", (value["low"] or 0) > 1),
        ("minutes", round(minutes, 1), "under 15 on two idle cores", minutes < 15),
    ]
    return {
        "cores": os.cpu_count(),
        "load": os.getloadavg()[1],
        "seconds": seconds,
        "repaired": comparison.repaired,
        "broken": comparison.broken,
        "p_value": comparison.p_value,
        "changes": changes,
        "checks": [{"name": name, "value": value, "goal": goal, "holds": holds} for name, value, goal, holds in checks],
    }


def told(change: Change) -> dict[str, float | None]:
    """A change as numbers."""
    found = change.change
    limits = (None, None, None) if found is None else (found.point, found.interval.low, found.interval.high)
    return {"before": change.before, "after": change.after, **dict(zip(("change", "low", "high"), limits, strict=True))}


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description="Let an agent learn from those of its runs that were worth their cost.")
    made.add_argument("--folder", type=Path, default=Path("loop"), help="where everything goes; emptied first")
    made.add_argument("--steps", type=int, default=2, help="updates of each of the six blocks")
    working = made.add_subparsers(dest="step").add_parser("work", help="price orders: one step of the loop")
    working.add_argument("db", type=Path)
    working.add_argument("--orders", type=int, required=True)
    working.add_argument("--first", type=int, default=0, help="how many of the list to leave out")
    working.add_argument("--attempts", type=int, default=1)
    working.add_argument("--temperature", type=float, default=0.0)
    working.add_argument("--model", default="SmolLM2-135M-Instruct")
    working.add_argument("--kv-cache", choices=["full", "oscar"], default="full")
    return made


def run(given: argparse.Namespace) -> None:
    if given.step is None:
        main(Plan(folder=given.folder, steps=given.steps))
        return
    model = ChatLocalLLM(model=given.model, temperature=given.temperature, kv_cache=given.kv_cache, max_tokens=48)
    work(model, orders(given.orders, first=given.first), given.db, attempts=given.attempts)


if __name__ == "__main__":
    run(parser().parse_args())
