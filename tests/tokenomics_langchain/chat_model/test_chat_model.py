from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import reduce
from operator import add as plus
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import ModelRequest, ModelResponse, wrap_model_call
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.exceptions import ContextOverflowError
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.tools import BaseTool, tool
from pydantic import BaseModel, Field, ValidationError

from tokenomics_langchain import ChatLocalLLM
from tokenomics_local_llm import ModelLoadError, load_model, render_prompt

Make = Callable[..., ChatLocalLLM]

with_each_cache = pytest.mark.parametrize("kv_cache", ["full", "oscar"])


class Mood(BaseModel):
    """How it goes."""

    good: bool
    level: int = Field(ge=0, le=9)


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@tool
def wait() -> str:
    """Do nothing."""
    return "waited"


@tool
def note(text: str) -> str:
    """Keep a text, however long."""
    return text


class Tokens(BaseCallbackHandler):
    """Keeps what is reported while a model writes."""

    def __init__(self) -> None:
        self.tokens: list[str] = []
        self.metadata: dict[str, Any] = {}

    def on_chat_model_start(self, *args: Any, metadata: dict[str, Any] | None = None, **kwargs: Any) -> None:
        self.metadata = metadata or {}

    def on_llm_new_token(self, token: Any, **kwargs: Any) -> None:
        self.tokens.append(token)


@pytest.fixture
def passes(make_tiny: Make) -> Iterator[list[int]]:
    """Grows with every pass through the tiny model by the thread that it ran in."""
    passes: list[int] = []
    hook = make_tiny()._llm.model.register_forward_hook(lambda *args: passes.append(threading.get_ident()))
    yield passes
    hook.remove()


def summed(chunks: Iterator[AIMessage]) -> AIMessage:
    return reduce(plus, chunks)


@with_each_cache
@pytest.mark.parametrize("choice", [None, "any"], ids=["text", "call"])
def test_sum_of_a_stream_is_what_invoke_returns(make_tiny: Make, choice: str | None) -> None:
    model = make_tiny(temperature=1, max_tokens=300).bind_tools([add], tool_choice=choice)

    streamed = summed(model.stream("Hello"))
    invoked = model.invoke("Hello")

    assert streamed.content == invoked.content
    assert [(call["name"], call["args"]) for call in streamed.tool_calls] == [
        (call["name"], call["args"]) for call in invoked.tool_calls
    ]
    assert streamed.usage_metadata == invoked.usage_metadata
    assert streamed.response_metadata == invoked.response_metadata


@with_each_cache
def test_usage_is_on_the_last_chunk_only(make_tiny: Make) -> None:
    *chunks, last = make_tiny(max_tokens=5).stream("Hello")

    assert [chunk.usage_metadata for chunk in chunks] == [None] * 4  # a token a chunk
    assert last.usage_metadata == {"input_tokens": 24, "output_tokens": 5, "total_tokens": 29}
    assert last.chunk_position == "last"


@with_each_cache
def test_answer_says_what_made_it(make_tiny: Make, tiny_folder: Path, kv_cache: str) -> None:
    metadata: dict[str, Any] = make_tiny(max_tokens=5).invoke("Hello").response_metadata

    assert metadata | {"kv_cache_bits_per_element": None, "kv_cache_bytes": None} == {
        "finish_reason": "length",
        "model_name": str(tiny_folder),
        "model_provider": "local",
        "kv_cache": kv_cache,
        "kv_cache_bits_per_element": None,
        "kv_cache_bytes": None,
    }
    elements = 28 * 2 * 2 * 2 * 8  # tokens read, layers, keys and values, heads, channels
    assert metadata["kv_cache_bytes"] * 8 == metadata["kv_cache_bits_per_element"] * elements


def test_cache_of_codes_holds_less_of_a_long_conversation(make_tiny: Make) -> None:
    held = {
        kind: make_tiny(kv_cache=kind, max_tokens=50).invoke("word " * 500).response_metadata
        for kind in ("full", "oscar")
    }

    assert held["full"]["kv_cache_bits_per_element"] == 32
    assert held["oscar"]["kv_cache_bytes"] < held["full"]["kv_cache_bytes"] / 2


def test_objects_with_other_caches_share_a_model_and_do_not_disturb_each_other(make_tiny: Make) -> None:
    models = [make_tiny(kv_cache=kind, max_tokens=60) for kind in ("full", "oscar")]
    prompt = "word " * 300
    alone = [model.invoke(prompt).content for model in models]

    streams: Any = [model.stream(prompt) for model in models]
    taking_turns = ["", ""]
    for chunks in zip(*streams, strict=True):
        taking_turns = [text + str(chunk.content) for text, chunk in zip(taking_turns, chunks, strict=True)]

    assert models[0]._llm is models[1]._llm
    assert taking_turns == alone


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"kv_cache": "3-bit"}, "Input should be 'full' or 'oscar'"),
        ({"kv_cache": "full", "kv_cache_calibration": "text.txt"}, "a full cache needs no calibration, got text.txt"),
        ({"kv_cache": "oscar", "kv_cache_calibration": "no-such.txt"}, "no-such.txt cannot be read as UTF-8 text"),
    ],
    ids=["unknown", "calibration of a full cache", "no text"],
)
def test_cache_that_cannot_be_had_is_refused_when_the_model_is_made(
    make_tiny: Make, settings: dict[str, Any], rule: str
) -> None:
    with pytest.raises(ValueError, match=rule):
        make_tiny(**settings)


def test_traces_are_told_what_was_asked_for(make_tiny: Make, tiny_folder: Path) -> None:
    handler = Tokens()

    make_tiny(temperature=0.5, max_tokens=3).invoke("Hello", {"callbacks": [handler]}, stop=["x"])

    asked = {name: value for name, value in handler.metadata.items() if name.startswith("ls_")}
    assert asked == {
        "ls_provider": "local",
        "ls_model_name": str(tiny_folder),
        "ls_model_type": "chat",
        "ls_temperature": 0.5,
        "ls_max_tokens": 3,
        "ls_stop": ["x"],
        "ls_integration": "langchain_chat_model",
    }


def test_settings_of_a_call_win_over_those_of_the_model(make_tiny: Make) -> None:
    model = make_tiny(max_tokens=30, temperature=1)

    assert model.invoke("Hello", max_tokens=3).usage_metadata == make_tiny(max_tokens=3).invoke("Hello").usage_metadata
    assert model.invoke("Hello", seed=1).content != model.invoke("Hello", seed=2).content
    assert model.invoke("Hello", temperature=0).content == make_tiny(max_tokens=30).invoke("Hello").content


@with_each_cache
@pytest.mark.parametrize("where", ["model", "call"])
def test_answer_ends_before_a_stop_sequence(make_tiny: Make, where: str) -> None:
    text = make_tiny().invoke("Hello").text
    stop = [text[5:8]]

    answer = make_tiny(stop=stop).invoke("Hello") if where == "model" else make_tiny().invoke("Hello", stop=stop)

    assert answer.content == text[: text.index(stop[0])]
    assert answer.response_metadata["finish_reason"] == "stop"


@pytest.mark.parametrize("stream", [False, True], ids=["invoke", "streaming"])
def test_tokens_are_reported_once_and_only_when_streaming(make_tiny: Make, stream: bool) -> None:
    handler = Tokens()

    answer = make_tiny(streaming=stream).invoke("Hello", {"callbacks": [handler]})

    assert "".join(handler.tokens) == (answer.content if stream else "")


@with_each_cache
@pytest.mark.parametrize(
    "choice",
    ["wait", {"type": "function", "function": {"name": "wait"}}, {"type": "tool", "name": "wait"}],
    ids=["name", "openai", "anthropic"],
)
def test_named_tool_is_the_one_that_is_called(make_tiny: Make, choice: Any) -> None:
    answer = make_tiny(max_tokens=100).bind_tools([add, wait], tool_choice=choice).invoke("Hello")

    assert [call["name"] for call in answer.tool_calls] == ["wait"]


@pytest.mark.parametrize("choice", ["any", "required", True], ids=str)
def test_some_tool_is_called_where_one_must_be(make_tiny: Make, choice: Any) -> None:
    model = make_tiny(temperature=1000, max_tokens=300, stop=["a", "{"]).bind_tools([add, wait], tool_choice=choice)

    answers = [model.invoke("Hello", seed=seed) for seed in range(20)]

    assert {call["name"] for answer in answers for call in answer.tool_calls} == {"add", "wait"}
    assert {len(answer.tool_calls) for answer in answers} == {1}
    assert {answer.content for answer in answers} == {""}
    assert {answer.response_metadata["finish_reason"] for answer in answers} == {"tool_calls"}


def test_parallel_calls_are_told_apart(make_tiny: Make) -> None:
    model = make_tiny(temperature=1000, max_tokens=2000).bind_tools([wait], tool_choice="any", parallel_tool_calls=True)

    answers = [summed(model.stream("Hello", seed=seed)) for seed in range(20)]

    calls = max((answer.tool_calls for answer in answers), key=len)
    assert len(calls) > 1
    assert len({call["id"] for call in calls}) == len(calls)


def test_model_is_not_told_of_tools_that_it_must_not_call(make_tiny: Make) -> None:
    model = make_tiny(max_tokens=3)

    answer = model.bind_tools([add], tool_choice="none").invoke("Hello")

    assert answer.usage_metadata == model.invoke("Hello").usage_metadata


@pytest.mark.parametrize("tools", [[add, wait], []], ids=["other-tools", "no-tools"])
def test_choice_of_a_tool_that_is_not_there_is_refused(make_tiny: Make, tools: list[BaseTool]) -> None:
    with pytest.raises(ValueError, match=r"tool_choice must be .* or the name of a tool, got 'subtract'"):
        make_tiny().bind_tools(tools, tool_choice="subtract")


def test_tool_that_is_no_function_is_refused(make_tiny: Make) -> None:
    with pytest.raises(ValueError, match="calls functions only, got a tool of type 'web_search_preview'"):
        make_tiny().bind_tools([{"type": "web_search_preview"}])


@with_each_cache
@pytest.mark.parametrize("stream", [False, True], ids=["invoke", "stream"])
def test_call_that_is_cut_off_is_not_acted_on(make_tiny: Make, stream: bool) -> None:
    model = make_tiny(max_tokens=65).bind_tools([note], tool_choice="any")

    answer = summed(model.stream("Hello")) if stream else model.invoke("Hello")

    assert answer.response_metadata["finish_reason"] == "length"
    assert answer.tool_calls == []
    (broken,) = answer.invalid_tool_calls
    assert broken["args"] == answer.content
    assert str(answer.content).startswith('<tool_call>\n{"name": "note", "arguments": {"text": "')


def test_text_that_looks_like_a_call_stays_text_where_there_are_no_tools(make_tiny: Make) -> None:
    answer = make_tiny(max_tokens=200).invoke(
        "Hello",
        response_format={"type": "json_schema", "json_schema": {"schema": {"const": "<tool_call>{}</tool_call>"}}},
    )

    assert answer.content == '"<tool_call>{}</tool_call>"'
    assert answer.invalid_tool_calls == []


def test_conversation_is_rendered_whole(make_tiny: Make, tiny_folder: Path) -> None:
    call = {"name": "add", "args": {"a": 1, "b": 2}, "id": "1"}
    messages = [
        SystemMessage("Be brief."),
        HumanMessage([{"type": "text", "text": "1 + "}, {"type": "text", "text": "2?"}]),
        AIMessage("", tool_calls=[call]),
        ToolMessage("3", tool_call_id="1"),
        AIMessage("It is 3."),
        HumanMessage("Sure?"),
    ]
    llm = load_model(str(tiny_folder), dtype="float32")
    prompt = render_prompt(
        llm,
        [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "1 + 2?"},
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [{"type": "function", "function": {"name": "add", "arguments": call["args"]}}],
            },
            {"role": "tool", "content": "3"},
            {"role": "assistant", "content": "It is 3."},
            {"role": "user", "content": "Sure?"},
        ],
    )

    answer: Any = make_tiny(max_tokens=3).invoke(messages)

    assert answer.usage_metadata["input_tokens"] == len(llm.encode(prompt))  # each of which is a byte


@pytest.mark.parametrize(
    ("message", "rule"),
    [
        (HumanMessage([{"type": "image", "url": "http://example.org/cat.png"}]), "reads text only, got .* image"),
        (ToolMessage([{"type": "file", "file_id": "1"}], tool_call_id="1"), "reads text only, got .* file"),
        (RemoveMessage("1"), "reads system, human, AI and tool messages, got RemoveMessage"),
    ],
    ids=["image", "file", "remove"],
)
def test_message_that_the_model_cannot_read_is_refused(make_tiny: Make, message: BaseMessage, rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        make_tiny().invoke([message])


def test_conversation_that_fills_the_context_raises_langchains_own_error(make_tiny: Make) -> None:
    with pytest.raises(ContextOverflowError, match="reads at most 8192"):
        make_tiny().invoke("x" * 8192)


def test_profile_knows_the_context(make_tiny: Make) -> None:
    profile: Any = make_tiny().profile

    assert profile["max_input_tokens"] == 8192


@pytest.mark.parametrize("settings", [{"heat": 1}, {"temperature": -1}, {"top_p": 0}, {"max_tokens": 0}], ids=str)
def test_impossible_settings_are_refused(make_tiny: Make, settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(settings))):
        make_tiny(**settings)


def test_call_with_an_unknown_setting_is_refused(make_tiny: Make) -> None:
    with pytest.raises(TypeError, match="ChatLocalLLM takes no max_new_tokens"):
        make_tiny().invoke("Hello", max_new_tokens=3)


def test_response_format_that_is_none_is_refused(make_tiny: Make) -> None:
    with pytest.raises(ValueError, match="response_format must have the type"):
        make_tiny().invoke("Hello", response_format={"type": "xml"})


def test_model_that_does_not_exist_is_refused_when_it_is_made() -> None:
    with pytest.raises(ModelLoadError, match="no model could be loaded"):
        ChatLocalLLM(model="./no-such-folder")


def test_models_share_their_weights(make_tiny: Make) -> None:
    assert make_tiny(temperature=0)._llm is make_tiny(temperature=1)._llm


@with_each_cache
def test_cached_answers_belong_to_their_settings(make_tiny: Make) -> None:
    cache = InMemoryCache()
    ask: dict[str, Any] = {"temperature": 1, "cache": cache}

    first, again, other = (make_tiny(**ask, seed=seed).invoke("Hello").content for seed in (1, 1, 2))

    assert first == again != other


@with_each_cache
def test_structured_output_is_always_structured(make_tiny: Make) -> None:
    model = make_tiny(temperature=1000, max_tokens=300).with_structured_output(Mood)

    assert isinstance(model.invoke("Hello"), Mood)


@pytest.mark.parametrize("strategy", [ToolStrategy, ProviderStrategy])
def test_agent_gets_its_structured_response(make_tiny: Make, strategy: Any) -> None:
    agent: Any = create_agent(make_tiny(temperature=1000, max_tokens=300), tools=[], response_format=strategy(Mood))

    assert isinstance(agent.invoke({"messages": [HumanMessage("Hello")]})["structured_response"], Mood)


def test_json_mode_answers_with_an_object(make_tiny: Make) -> None:
    model = make_tiny(temperature=1000, max_tokens=1000)

    answer = model.invoke("Hello", response_format={"type": "json_object"})

    assert str(answer.content).startswith("{")


@with_each_cache
def test_stream_that_is_closed_does_no_more_work(make_tiny: Make, passes: list[int]) -> None:
    stream: Any = make_tiny(max_tokens=500).stream("Hello")
    next(stream)

    stream.close()

    assert len(passes) == 1


@with_each_cache
async def test_async_stream_computes_outside_the_loops_thread(make_tiny: Make, passes: list[int]) -> None:
    chunks = [chunk async for chunk in make_tiny().astream("Hello")]

    assert len(chunks) == len(passes) == 40
    assert threading.get_ident() not in passes


@with_each_cache
async def test_async_call_that_is_cancelled_does_no_more_work(make_tiny: Make, passes: list[int]) -> None:
    call = asyncio.create_task(make_tiny(max_tokens=5000, temperature=1).ainvoke("Hello"))
    while not passes:
        await asyncio.sleep(0.001)

    call.cancel()
    done = len(passes)
    with pytest.raises(asyncio.CancelledError):
        await call
    await asyncio.sleep(0.2)

    assert len(passes) <= done + 1  # the one that was under way


def test_importing_the_module_does_not_import_torch() -> None:
    code = (
        "import sys\nfrom langchain_core.language_models import BaseChatModel\n"
        "before = set(sys.modules)\n"  # older LangChain imports transformers itself, where it is installed
        "import tokenomics_langchain.chat_model\n"
        "assert not {'torch', 'transformers', 'tokenomics_local_llm'} & (sys.modules.keys() - before)"
    )

    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_missing_backend_names_the_extra() -> None:
    code = "import sys; sys.modules['torch'] = None; from tokenomics_langchain import ChatLocalLLM; ChatLocalLLM()"

    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)

    assert "torch is not installed: run `pip install 'tokenomics-plugin[local]'`" in result.stderr


def test_agent_on_a_real_model_uses_its_tool() -> None:
    @wrap_model_call
    def first_call_then_answer(
        request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any]:
        asked = isinstance(request.messages[-1], HumanMessage)
        return handler(request.override(tool_choice="any") if asked else request.override(tools=[]))

    agent: Any = create_agent(ChatLocalLLM(max_tokens=40), [add], middleware=[first_call_then_answer])

    _, call, result, answer = agent.invoke({"messages": [HumanMessage("What is 17 + 25?")]})["messages"]

    assert call.tool_calls[0]["args"] == {"a": 17, "b": 25}
    assert result.content == "42"
    assert "42" in answer.content
