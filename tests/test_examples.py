"""The examples run, and say what they promise."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tokenomics_local_llm.diffusion_blocks.gate import Reading
from tokenomics_local_llm.diffusion_blocks.journal import Attempt, Journal
from tokenomics_plugin.collector import Collector, CollectorConfig
from tokenomics_plugin.store import TraceStore

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.mark.slow
@pytest.mark.timeout(600)  # a real model, on whatever else the machine does
def test_the_quickstart_reports_what_it_counted_itself(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / "quickstart.py", "3"], cwd=tmp_path, capture_output=True, text=True, timeout=580
    )

    assert done.returncode == 0, done.stderr
    assert "6 tasks, 6 traces" in done.stdout
    assert done.stdout.count("agree") == 12
    assert "Waste by cause" in done.stdout
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Later attempts, tools: 1 tool_retry." in page
    assert "shop assistant, 2-bit cache" in page
    # What a real model repeats differs between processors.
    repeats = re.findall(r"^repeats +(\d+)", done.stdout, re.MULTILINE)
    assert len(repeats) == 1
    for shown in ("<caption>Repeats</caption>", "D1 exact duplicate read"):
        assert (shown in page) == (repeats != ["0"])


def test_an_untouched_program_is_traced_by_the_command_that_runs_it(tmp_path: Path) -> None:
    db, program = tmp_path / "traces.duckdb", EXAMPLES / "untouched_agent.py"
    untraced = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=120, check=True)

    with Collector(CollectorConfig(db=db, http_port=0, grpc_port=0)) as addresses:
        traced = subprocess.run(
            [Path(sys.executable).parent / "opentelemetry-instrument", sys.executable, program],
            capture_output=True,
            text=True,
            timeout=120,
            env=os.environ | {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{addresses.grpc}", "OTEL_SERVICE_NAME": "shop"},
        )

    assert (traced.returncode, traced.stdout) == (0, untraced.stdout), traced.stderr
    assert untraced.stdout.count("5 of them cost $125.") == 2
    with TraceStore(db, read_only=True) as store:
        spans = list(store.spans())
    names = {span.span_id: span.name for span in spans}
    parents = sorted((span.name, names.get(span.parent_span_id or "")) for span in spans)
    one_run = [
        ("chat scripted-1", "invoke_agent shopkeeper"),
        ("chat scripted-1", "invoke_agent shopkeeper"),
        ("execute_tool price_of", "invoke_agent shopkeeper"),
        ("execute_tool stock_of", "invoke_agent shopkeeper"),
        ("invoke_agent shopkeeper", None),
        ("query stock", "execute_tool stock_of"),
    ]
    assert parents == sorted(one_run * 2, key=lambda pair: (pair[0], pair[1] or ""))
    assert len({span.trace_id for span in spans}) == 2


def test_policies_only_say_what_they_would_do_until_they_are_told_to() -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / "policies.py"], capture_output=True, text=True, timeout=120, check=True
    )
    shadow, enforced = (line.split()[1:] for line in done.stdout.splitlines())
    assert shadow == ["memo:answer", "memo:answer", "loop:stop", "memo:answer", "loop:stop", "memo:answer", "loop:stop"]
    assert enforced == ["memo:answer", "memo:answer", "loop:stop"]


CLERK = """
import json, re, sys
from pathlib import Path
from typing import Any
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
import close_the_loop

class Clerk(BaseChatModel):
    repeats: int
    @property
    def _llm_type(self): return "clerk"
    def bind_tools(self, tools, **kwargs): return self.bind(tools=tools, **kwargs)
    def _generate(self, messages, *args, **kwargs):
        lines = re.findall(r"(\\d+) ([a-z]+)s", messages[0].text)
        done = sum(isinstance(message, ToolMessage) for message in messages)
        quantity, item = lines[min(max(done - self.repeats, 0), len(lines) - 1)]
        call = {"name": "total_price", "args": {"item": item, "quantity": int(quantity)}, "id": f"call-{done}"}
        message = AIMessage("", tool_calls=[call], response_metadata={"model_name": "clerk", "model_provider": "local"})
        message.usage_metadata = {"input_tokens": 100, "output_tokens": 20, "total_tokens": 120}
        return ChatResult(generations=[ChatGeneration(message=message)])
    def _get_ls_params(self, **kwargs): return {"ls_provider": "local", "ls_model_name": "clerk"}

db, first, count, attempts, repeats = sys.argv[1:]
todo = close_the_loop.orders(int(count), first=int(first))
close_the_loop.work(Clerk(repeats=int(repeats)), todo, Path(db), attempts=int(attempts))
"""


def clerk_works(db: Path, *, orders: int, first: int = 0, attempts: int = 1, repeats: int = 0) -> None:
    """An agent that asks for the first price again, so many times, works in a process of its own."""
    arguments = list(map(str, (db, first, orders, attempts, repeats)))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(EXAMPLES), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, "-c", CLERK, *arguments], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


def test_the_loop_learns_from_successes_without_their_repeats_and_tells_what_changed(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("close_the_loop", EXAMPLES / "close_the_loop.py")
    assert spec is not None
    assert spec.loader is not None
    loop: Any = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = loop  # its dataclasses look themselves up there
    spec.loader.exec_module(loop)
    plan = loop.Plan(folder=tmp_path, evaluate=15, practise=12, learn=10)
    stages = dict(plan.stages())

    clerk_works(plan.before, orders=15, repeats=2)  # with two lines it runs out of look-ups
    clerk_works(tmp_path / "practise.duckdb", first=15, orders=12, attempts=5, repeats=1)
    exported = subprocess.run(stages["export"], capture_output=True, text=True, timeout=60, check=True).stdout
    clerk_works(plan.after, orders=15)
    base, best = Reading(held_out_loss=2.0, kl=0.0), Reading(held_out_loss=1.0, kl=0.1)
    path = tmp_path / "tuned.run" / "journal.json"
    path.parent.mkdir()
    visit = Attempt(blocks=[0], train_losses=[1.0], tokens=1, reading=best, kept=True, damping=1.0)
    Journal(path=path, run={}, base=base, attempts=[visit]).write()
    compared = subprocess.run(stages["compare"], capture_output=True, text=True, timeout=60, check=True).stdout
    told = json.loads(json.dumps(loop.outcome(plan, {"before": 1.0})))

    assert "12 tasks: 10 kept, 2 left out\n  2 beyond the budget" in exported
    for line in (tmp_path / "worth.jsonl").read_text(encoding="utf-8").splitlines():
        conversation = json.loads(line)["messages"]
        calls = [call["function"]["arguments"] for message in conversation for call in message.get("tool_calls", ())]
        assert len(set(calls)) == len(calls) == 1 + (" together" in conversation[0]["content"])
    assert "15 tasks judged both times." in compared
    assert (told["repaired"], told["broken"]) == (10, 0)
    assert told["changes"]["Success rate"]["change"] == pytest.approx(10 / 15)
    assert [check["holds"] for check in told["checks"]] == [True] * 4
