"""What installing and importing promise, each in a fresh interpreter."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import packages_distributions, requires

import pytest

AGENT_FRAMEWORKS = {"langchain", "langchain_core", "langgraph"}
ML_FRAMEWORKS = {"torch", "transformers", "llguidance", "numpy", "scipy", "pandas"}
WEB_FRAMEWORKS = {"starlette", "uvicorn", "fastapi"}
OFFLINE_HALF = {"duckdb", "pyarrow", "plotly", "genai_prices", "click"}
HEAVY = AGENT_FRAMEWORKS | ML_FRAMEWORKS | WEB_FRAMEWORKS | OFFLINE_HALF

BLOCKER = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
"""


def run(program: str, blocked: set[str] | None = None) -> subprocess.CompletedProcess[str]:
    prologue = f"BLOCKED = {blocked!r}\n{BLOCKER}" if blocked else ""
    return subprocess.run([sys.executable, "-c", prologue + program], capture_output=True, text=True, timeout=120)


def test_the_core_traces_with_the_base_install_alone() -> None:
    done = run(
        "import os, tokenomics_plugin as tp, tokenomics_plugin.exporters\n"
        "telemetry = tp.configure(endpoint='http://127.0.0.1:9')\n"
        "print(type(telemetry.tracer_provider).__name__, flush=True)\n"
        "os._exit(0)  # nobody listens on that port: do not wait for a retry",
        blocked=HEAVY,
    )

    assert done.stdout == "TracerProvider\n", done.stderr


def test_importing_the_core_imports_no_framework() -> None:
    done = run(f"import sys, tokenomics_plugin; print(sorted(set(sys.modules) & {HEAVY!r}))")

    assert done.stdout == "[]\n", done.stderr


def test_adding_the_callback_to_an_agent_needs_neither_torch_nor_a_web_framework() -> None:
    unwanted = (ML_FRAMEWORKS | WEB_FRAMEWORKS | OFFLINE_HALF) - {"numpy"}  # langchain-core uses numpy where it is
    done = run(
        "from tokenomics_langchain import TokenomicsCallbackHandler\n"
        "from langchain_core.runnables import RunnableLambda\n"
        "print(RunnableLambda(lambda x: x + 1).invoke(1, config={'callbacks': [TokenomicsCallbackHandler()]}))",
        blocked=unwanted,
    )

    assert done.stdout == "2\n", done.stderr


@pytest.mark.parametrize(
    ("program", "blocked", "extra"),
    [
        ("import tokenomics_langchain as t; t.TokenomicsCallbackHandler", {"langchain_core"}, "langchain"),
        ("import tokenomics_langchain as t; t.ChatLocalLLM().invoke('hi')", {"torch"}, "local"),
        ("from tokenomics_local_llm import load_model; load_model()", {"torch"}, "local"),
        ("import tokenomics_plugin.cli as c; c.main()", {"click"}, "collector,report"),
    ],
    ids=["callback", "chat-model", "local-backend", "command-line"],
)
def test_a_missing_extra_is_named_with_the_command_that_installs_it(
    program: str, blocked: set[str], extra: str
) -> None:
    done = run(program, blocked)

    assert done.returncode != 0
    assert f"pip install 'tokenomics-plugin[{extra}]'" in done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize(("command", "blocked"), [("collect", "starlette"), ("report", "scipy")])
def test_a_command_without_its_extra_names_it(command: str, blocked: str) -> None:
    done = run(
        f"import sys; sys.argv = ['tokenomics', {command!r}]; import tokenomics_plugin.cli as c; c.main()", {blocked}
    )

    assert done.returncode == 1
    assert re.search(r"pip install 'tokenomics-plugin\[(collector|report)\]'", done.stderr)
    assert "Traceback" not in done.stderr


def test_the_base_install_is_opentelemetry_alone() -> None:
    base = [line for line in requires("tokenomics-plugin") or [] if "extra ==" not in line]

    assert {re.split(r"[^\w-]", line)[0] for line in base} == {
        "opentelemetry-sdk",
        "opentelemetry-exporter-otlp-proto-http",
        "opentelemetry-exporter-otlp-proto-grpc",
    }


def test_the_distribution_owns_only_names_with_its_prefix() -> None:
    owned = {name for name, owners in packages_distributions().items() if "tokenomics-plugin" in owners}

    assert all(name.startswith(("tokenomics", "_tokenomics", "__editable__")) for name in owned)
