from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any, TypedDict

import langgraph.pregel.main as graph_module
import pytest
from langchain_core.callbacks import BaseCallbackHandler, CallbackManager
from langchain_core.runnables import RunnableLambda
from langchain_core.tracers import context as hook_module
from langgraph.callbacks import GraphCallbackHandler, GraphInterruptEvent, GraphResumeEvent
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt

from tokenomics_langchain import listening
from tokenomics_langchain.listening import listen


class Notebook(GraphCallbackHandler):
    """Writes down what it hears."""

    run_inline = True

    def __init__(self) -> None:
        self.heard: list[str] = []

    def on_chain_start(self, *_: Any, name: str | None = None, **__: Any) -> None:
        self.heard.append(f"start {name}")

    def on_interrupt(self, event: GraphInterruptEvent) -> None:
        self.heard.append("interrupt")

    def on_resume(self, event: GraphResumeEvent) -> None:
        self.heard.append("resume")


class State(TypedDict):
    answer: str


def asking_graph() -> Any:
    builder = StateGraph(State)
    builder.add_node("ask", lambda _state: {"answer": interrupt("sure?")})
    builder.add_edge(START, "ask")
    return builder.compile(checkpointer=InMemorySaver(), name="asking")


def greet(name: str) -> str:
    return f"hello {name}"


GREET = RunnableLambda(greet)


@contextmanager
def listening_to(*handlers: BaseCallbackHandler) -> Iterator[None]:
    with ExitStack() as stack:
        for handler in handlers:
            stack.callback(listen(handler).stop)
        yield


def surfaces() -> list[Any]:
    """What listening touches in LangChain and LangGraph."""
    return [*hook_module._configure_hooks, *(vars(graph_module)[name] for name in listening._MANAGER_FACTORIES)]


def _in_thread(call: Callable[[], object]) -> None:
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()


def _in_pool(call: Callable[[], object]) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(call).result()


async def _greet_later() -> None:
    await asyncio.create_task(GREET.ainvoke("world"))


@pytest.mark.parametrize(
    "run",
    [
        pytest.param(lambda: GREET.invoke("world"), id="here"),
        pytest.param(lambda: _in_thread(lambda: GREET.invoke("world")), id="plain thread"),
        pytest.param(lambda: _in_pool(lambda: GREET.invoke("world")), id="plain pool"),
        pytest.param(lambda: asyncio.run(_greet_later()), id="task of a loop"),
        pytest.param(lambda: list(GREET.stream("world")), id="stream"),
    ],
)
def test_a_listener_hears_runs_that_nobody_passes_it_to(run: Callable[[], object]) -> None:
    notebook = Notebook()
    with listening_to(notebook):
        run()
    assert notebook.heard == ["start greet"]


@pytest.mark.parametrize("wrap", [list, CallbackManager], ids=["list", "manager"])
def test_a_handler_that_is_passed_as_well_hears_a_run_once(wrap: Callable[[Any], Any]) -> None:
    notebook = Notebook()
    with listening_to(notebook):
        GREET.invoke("world", {"callbacks": wrap([notebook])})
    assert notebook.heard == ["start greet"]


def test_a_handler_that_listens_twice_hears_a_run_once_until_both_have_stopped() -> None:
    notebook = Notebook()
    first, second = listen(notebook), listen(notebook)
    GREET.invoke("world")
    first.stop()
    GREET.invoke("world")
    second.stop()
    GREET.invoke("world")
    assert notebook.heard == ["start greet", "start greet"]


def test_listeners_do_not_disturb_each_other() -> None:
    one, other = Notebook(), Notebook()
    first = listen(one)
    with listening_to(other):
        GREET.invoke("world")
        first.stop()
        first.stop()
        GREET.invoke("world")
    assert (len(one.heard), len(other.heard)) == (1, 2)


def test_after_the_last_listener_everything_is_as_it_was() -> None:
    before = surfaces()
    with listening_to(Notebook(), Notebook()):
        assert surfaces() != before
    after = surfaces()
    assert len(after) == len(before)
    assert all(one is other for one, other in zip(after, before, strict=True))


async def _ask_async(graph: Any, config: Any) -> None:
    await graph.ainvoke({"answer": ""}, config)
    await graph.ainvoke(Command(resume="yes"), config)


def _ask(graph: Any, config: Any) -> None:
    graph.invoke({"answer": ""}, config)
    graph.invoke(Command(resume="yes"), config)


@pytest.mark.parametrize("is_passed", [False, True], ids=["not passed", "passed as well"])
@pytest.mark.parametrize(
    "run",
    [
        pytest.param(_ask, id="sync"),
        pytest.param(lambda graph, config: asyncio.run(_ask_async(graph, config)), id="async"),
    ],
)
def test_a_listener_hears_of_interrupts_and_resumptions_once(run: Callable[[Any, Any], None], is_passed: bool) -> None:
    notebook = Notebook()
    config: Any = {"configurable": {"thread_id": "1"}} | ({"callbacks": [notebook]} if is_passed else {})
    with listening_to(notebook):
        run(asking_graph(), config)
    assert [heard for heard in notebook.heard if "start" not in heard] == ["interrupt", "resume"]


def test_a_handler_that_knows_no_graphs_is_not_told_of_interrupts() -> None:
    with listening_to(BaseCallbackHandler()):
        _ask(asking_graph(), {"configurable": {"thread_id": "1"}})


def test_a_langgraph_without_lifecycle_managers_costs_only_their_events(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    name = listening._MANAGER_FACTORIES[0]
    monkeypatch.delattr(graph_module, name)
    listening._report_absent.cache_clear()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            notebook = Notebook()
            with listening_to(notebook):
                GREET.invoke("world")
            assert notebook.heard == ["start greet"]
    assert [record.getMessage() for record in caplog.records] == [
        f"This LangGraph has no {name}: handlers that nobody passes miss interrupts and resumptions."
    ]


def test_a_wrapper_around_ours_stays_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    name = listening._MANAGER_FACTORIES[0]
    notebook, calls = Notebook(), []
    monkeypatch.setattr(graph_module, name, vars(graph_module)[name])  # puts it back at the end
    with listening_to(notebook):
        ours = vars(graph_module)[name]

        def theirs(*args: Any, **kwargs: Any) -> Any:
            calls.append(name)
            return ours(*args, **kwargs)

        setattr(graph_module, name, theirs)
    assert vars(graph_module)[name] is theirs
    _ask(asking_graph(), {"configurable": {"thread_id": "1"}})
    assert calls
    assert notebook.heard == []


def test_threads_may_start_and_stop_listening_at_once() -> None:
    before = surfaces()

    def listen_a_while() -> None:
        for _ in range(50):
            notebook = Notebook()
            with listening_to(notebook):
                GREET.invoke("world")
            assert notebook.heard

    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(listen_a_while) for _ in range(8)]:
            future.result()
    assert surfaces() == before
