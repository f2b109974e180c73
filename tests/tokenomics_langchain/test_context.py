from __future__ import annotations

import copy
import itertools
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain.agents import create_agent
from langchain.agents.middleware import ContextEditingMiddleware, SummarizationMiddleware
from langchain.agents.middleware.context_editing import ClearToolUsesEdit
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    HumanMessage,
    SystemMessage,
    ToolCall,
    ToolCallChunk,
    ToolMessage,
    message_chunk_to_message,
)
from langchain_core.outputs import ChatGenerationChunk, LLMResult
from langgraph.checkpoint.memory import InMemorySaver
from pydantic import BaseModel

from tokenomics_langchain.attributes import Attributes
from tokenomics_langchain.context import Carried, Conversation
from tokenomics_plugin import semconv
from tokenomics_plugin.context_blocks import ContextBlock, decode_blocks, resolve
from tokenomics_plugin.fingerprint import FingerprintKeys

_KEYS = FingerprintKeys(b"secret of the tests")
_CALL: ToolCall = {"name": "search", "args": {"query": "weather", "limit": 3}, "id": "call_1", "type": "tool_call"}


def _conversation() -> Conversation:
    return Conversation(_KEYS.current(0))


def _answer(turn: int) -> AIMessage:
    call = {
        "name": "search",
        "args": {"query": f"secret {turn}", "limit": 3},
        "id": f"call_{turn}",
        "type": "tool_call",
    }
    return AIMessage(f"secret thought {turn}", tool_calls=[call], id=f"answer_{turn}")


def _result(turn: int) -> ToolMessage:
    return ToolMessage(f"secret result {turn} " + "x" * 2_000, tool_call_id=f"call_{turn}")


class _Trace:
    """Records calls as a handler would, and remembers what they really carried."""

    def __init__(self, conversation: Conversation | None = None) -> None:
        self.conversation = conversation or _conversation()
        self.calls: dict[str, Attributes] = {}
        self.carried: dict[str, list[str]] = {}
        self._span_ids = itertools.count(1)

    def call(self, *messages: BaseMessage) -> Attributes:
        span_id = f"{next(self._span_ids):016x}"
        self.calls[span_id] = self.conversation.carried(span_id, Carried.now(messages))
        # Asked of another conversation, which has nothing to remember.
        self.carried[span_id] = [_conversation().produced(message, span_id) for message in messages]
        return self.calls[span_id]

    def blocks(self) -> list[list[ContextBlock]]:
        """The resolved blocks of each call, every one of them known."""
        return [[block for block in context or () if block] for context in resolve(self.calls).values()]

    def is_right(self) -> bool:
        return [[block.hash for block in call] for call in self.blocks()] == list(self.carried.values())


def _new_blocks(attributes: Attributes) -> int:
    return sum(isinstance(entry, ContextBlock) for entry in decode_blocks(str(attributes[semconv.CONTEXT_BLOCKS])))


# What a call carried


def test_a_call_refers_to_the_one_before_and_lists_what_is_new() -> None:
    conversation = _conversation()
    system, question, answer, result = SystemMessage("be brief"), HumanMessage("hi"), _answer(1), _result(1)
    first = conversation.carried("a" * 16, Carried.now([system, question]))
    produced = conversation.produced(answer, "a" * 16, tokens=17), conversation.produced(result, "b" * 16)
    second = conversation.carried("c" * 16, Carried.now([system, question, answer, result]))
    assert set(first) == {semconv.CONTEXT_BLOCKS}
    assert (second[semconv.CONTEXT_PREVIOUS], second[semconv.CONTEXT_KEPT]) == ("a" * 16, 2)
    context = resolve({"a" * 16: first, "c" * 16: second})["c" * 16] or ()
    assert [(b.role, b.tokens, b.producer) for b in context if b] == [
        ("system", None, None),
        ("user", None, None),
        ("assistant", 17, "a" * 16),
        ("tool", None, "b" * 16),
    ]
    assert [b.hash for b in context if b][2:] == list(produced)
    assert [b.size for b in context if b and b.role != "assistant"] == [8, 2, len(result.text)]


def test_no_content_is_in_the_attributes() -> None:
    trace = _Trace()
    messages: list[BaseMessage] = [ChatMessage(content="secret", role="secret"), HumanMessage([{"type": "secret"}])]
    for turn in range(3):
        messages += [_answer(turn), _result(turn)]
        trace.call(*messages)
    assert "secret" not in str(trace.calls)
    assert "search" not in str(trace.calls)


def test_bytes_of_a_run_are_linear_in_its_turns() -> None:
    trace, sizes = _Trace(), []
    messages: list[BaseMessage] = [SystemMessage("secret"), HumanMessage("secret")]
    for turn in range(60):
        sizes.append(len(str(trace.call(*messages))))
        messages += [_answer(turn), _result(turn)]
    assert max(sizes[1:]) - min(sizes[1:]) <= 6  # a few more digits in the counts
    assert trace.is_right()


_EDITS: dict[str, Callable[[list[BaseMessage]], list[BaseMessage]]] = {
    "same objects": list,
    "shallow copies": lambda messages: [message.model_copy() for message in messages],
    "deep copies": copy.deepcopy,
    "rebuilt from JSON": lambda messages: [type(m).model_validate_json(m.model_dump_json()) for m in messages],
    "new ids": lambda messages: [message.model_copy(update={"id": None}) for message in messages],
    "other names": lambda messages: [message.model_copy(update={"name": "agent"}) for message in messages],
}


@pytest.mark.parametrize("edit", _EDITS.values(), ids=_EDITS.keys())
def test_messages_that_only_look_new_are_not_listed_again(
    edit: Callable[[list[BaseMessage]], list[BaseMessage]],
) -> None:
    trace = _Trace()
    messages: list[BaseMessage] = [SystemMessage("s"), HumanMessage("q"), _answer(1), _result(1)]
    messages.insert(2, HumanMessage([{"type": "text", "text": "look"}, {"type": "image", "base64": "aGk="}]))
    trace.call(*messages)
    again = trace.call(*edit(messages), _answer(2))
    assert _new_blocks(again) == 1
    assert trace.is_right()


def _replace_content(message: AIMessage) -> None:
    message.content = "edited"


def _replace_calls(message: AIMessage) -> None:
    message.tool_calls = []


def _edit_arguments(message: AIMessage) -> None:
    message.tool_calls[0]["args"]["query"] = "edited"


def _edit_block(message: AIMessage) -> None:
    assert isinstance(message.content, list)
    assert isinstance(message.content[0], dict)
    message.content[0]["text"] = "edited"


@pytest.mark.parametrize(
    "edit",
    [
        pytest.param(_replace_content, id="content"),
        pytest.param(_replace_calls, id="tool calls"),
        pytest.param(_edit_arguments, id="an argument in place"),
        pytest.param(_edit_block, id="a block of content in place"),
    ],
)
def test_a_message_that_is_edited_is_another_block_and_its_tokens_are_unknown(
    edit: Callable[[AIMessage], None],
) -> None:
    trace = _Trace()
    answer = _answer(1)
    answer.content = [{"type": "text", "text": "thought"}]
    before = trace.conversation.produced(answer, "f" * 16, tokens=17)
    messages = [HumanMessage("q"), answer, _result(1)]
    trace.call(*messages)
    edit(answer)
    assert _new_blocks(trace.call(*messages)) == 1
    first, second = (call[1] for call in trace.blocks())
    assert trace.is_right()
    assert (first.hash, first.tokens, first.producer) == (before, 17, "f" * 16)
    assert (second.hash != before, second.tokens, second.producer) == (True, None, "f" * 16)


def test_a_summary_in_place_of_old_messages_copies_the_others() -> None:
    trace = _Trace()
    turns = [message for turn in range(6) for message in (_answer(turn), _result(turn))]
    trace.call(SystemMessage("s"), HumanMessage("q"), *turns)
    summarised = trace.call(SystemMessage("s"), HumanMessage("summary"), *turns[-4:])
    assert (summarised[semconv.CONTEXT_KEPT], _new_blocks(summarised)) == (1, 1)
    assert trace.is_right()


def test_a_system_prompt_that_changes_each_time_does_not_list_the_rest_again() -> None:
    trace = _Trace()
    messages: list[BaseMessage] = [HumanMessage("q")]
    for turn in range(10):
        attributes = trace.call(SystemMessage(f"it is {turn} o'clock"), *messages)
        assert _new_blocks(attributes) == (2 if turn == 0 else 3)
        messages += [_answer(turn), _result(turn)]
    assert trace.is_right()


def test_agents_that_take_turns_each_go_on_from_their_own_last_call() -> None:
    trace = _Trace()
    agents: list[list[BaseMessage]] = [[SystemMessage("same"), HumanMessage(f"task {agent}")] for agent in range(8)]
    for turn in range(5):
        for agent, messages in enumerate(agents):
            attributes = trace.call(*messages)
            if turn:
                assert (attributes[semconv.CONTEXT_KEPT], _new_blocks(attributes)) == (2 * turn, 2)
            messages += [_answer(100 * agent + turn), _result(100 * agent + turn)]
    assert trace.is_right()


def test_parallel_calls_on_one_history_share_it() -> None:
    trace = _Trace()
    history = [SystemMessage("s"), HumanMessage("q"), _answer(1), _result(1)]
    trace.call(*history)
    for branch in range(4):
        attributes = trace.call(*history, HumanMessage(f"part {branch}"))
        assert (attributes[semconv.CONTEXT_KEPT], _new_blocks(attributes)) == (4, 1)
    assert trace.is_right()


def test_a_call_that_repeats_another_lists_nothing() -> None:
    trace = _Trace()
    trace.call(HumanMessage("q"), _answer(1))
    again = trace.call(HumanMessage("q"), _answer(1))
    assert (again[semconv.CONTEXT_KEPT], again[semconv.CONTEXT_BLOCKS]) == (2, "[]")


def test_a_call_without_messages_says_so() -> None:
    assert _conversation().carried("a" * 16, Carried.now([])) == {semconv.CONTEXT_BLOCKS: "[]"}


@pytest.mark.parametrize(
    ("content", "size"),
    [
        pytest.param("naïve", 6, id="text in UTF-8 bytes"),
        pytest.param("", 0, id="empty text"),
        pytest.param([{"type": "image", "base64": "aGk="}], None, id="image"),
        pytest.param([{"type": "text", "text": "look"}, {"type": "file", "id": "1"}], None, id="text and a file"),
    ],
)
def test_a_size_is_known_where_it_says_something_about_tokens(content: Any, size: int | None) -> None:
    trace = _Trace()
    trace.call(HumanMessage(content))
    assert trace.blocks()[0][0].size == size


def test_content_that_cannot_be_compared_equals_nothing_and_disturbs_no_other() -> None:
    conversation = _conversation()
    odd = HumanMessage([{"type": "text", "text": "x", "extra": object()}])
    calls = {
        span * 16: conversation.carried(span * 16, Carried.now([HumanMessage("q"), odd, _answer(1)])) for span in "ab"
    }
    first, second = resolve(calls).values()
    assert first is not None
    assert second is not None
    assert (first[0], first[2]) == (second[0], second[2])
    assert _new_blocks(calls["b" * 16]) <= 1


_TEXTS = st.sampled_from(["a", "b", "c", ""])
_MESSAGES: st.SearchStrategy[BaseMessage] = st.one_of(
    st.builds(HumanMessage, _TEXTS),
    st.builds(ToolMessage, _TEXTS, tool_call_id=st.sampled_from(["1", "2"])),
    st.builds(lambda text, args: AIMessage(text, tool_calls=[{"name": "t", "args": args, "id": "1"}]), _TEXTS,
              st.dictionaries(_TEXTS, st.integers(0, 1))),
    st.builds(lambda text: AIMessage([{"type": "text", "text": text}]), _TEXTS),
)  # fmt: skip


@given(st.data())
def test_any_sequence_of_edits_is_read_back(data: st.DataObject) -> None:
    trace = _Trace()
    messages: list[BaseMessage] = []
    for _ in range(data.draw(st.integers(1, 6))):
        start, end = sorted(data.draw(st.integers(0, len(messages))) for _ in range(2))
        messages = [*messages[:start], *data.draw(st.lists(_MESSAGES, max_size=3)), *messages[end:]]
        if data.draw(st.booleans()):
            messages = copy.deepcopy(messages)
        if data.draw(st.booleans()) and messages:
            data.draw(st.sampled_from(messages)).content = data.draw(_TEXTS)
        trace.call(*messages)
    assert trace.is_right()


def test_more_agents_than_are_remembered_cost_bytes_and_no_correctness() -> None:
    trace = _Trace()
    agents: list[list[BaseMessage]] = [[SystemMessage(f"agent {agent}")] for agent in range(40)]
    for turn in range(3):
        for agent, messages in enumerate(agents):
            trace.call(*messages)
            messages += [_answer(100 * agent + turn), _result(100 * agent + turn)]
    assert trace.is_right()


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokenomics_langchain.context._MAX_MESSAGES", 10)
    conversation = _conversation()
    for turn in range(50):
        conversation.produced(_result(turn), "a" * 16)
        conversation.carried("b" * 16, Carried.now([SystemMessage(f"agent {turn}")]))
    assert len(conversation._hashed) == len(conversation._produced) == 10
    assert len(conversation._branches) == 16


# Who produced it


def test_the_answer_of_a_stream_is_known_again_after_langgraph_made_a_message_of_it() -> None:
    chunk = AIMessageChunk(content="hello", id="run-1", tool_calls=[_CALL])
    message = message_chunk_to_message(chunk)
    message.name = "agent"
    conversation = _conversation()
    produced = conversation.produced(chunk, "f" * 16, tokens=3)
    attributes = conversation.carried("a" * 16, Carried.now([message]))
    (block,) = resolve({"a" * 16: attributes})["a" * 16] or ()
    assert block is not None
    assert (block.hash, block.tokens, block.producer) == (produced, 3, "f" * 16)


@pytest.mark.parametrize(
    ("message", "later"),
    [
        pytest.param(AIMessage("x"), lambda message: message, id="object"),
        pytest.param(AIMessage("x", id="1"), copy.deepcopy, id="message id"),
        pytest.param(ToolMessage("x", tool_call_id="1"), copy.deepcopy, id="tool call id"),
    ],
)
def test_a_message_is_traced_to_its_span_by(message: Any, later: Callable[[Any], Any]) -> None:
    trace = _Trace()
    trace.conversation.produced(message, "f" * 16)
    trace.call(later(message))
    assert trace.blocks()[0][0].producer == "f" * 16


def test_the_producer_of_a_message_that_nothing_ties_to_a_span_is_not_guessed() -> None:
    trace = _Trace()
    trace.conversation.produced(AIMessage("same words", id="1"), "f" * 16, tokens=2)
    trace.call(AIMessage("same words", id="2"), AIMessage("same words"))
    assert [(block.producer, block.tokens) for block in trace.blocks()[0]] == [(None, None), (None, None)]


def test_copies_behind_a_changing_system_prompt_are_known_by_their_ids() -> None:
    trace = _Trace()
    answer = _answer(1)
    produced = trace.conversation.produced(answer, "f" * 16, tokens=17)
    for prompt in ("now", "later"):
        trace.call(SystemMessage(prompt), *copy.deepcopy([HumanMessage("q", id="1"), answer]))
    assert trace.is_right()
    assert [(call[2].hash, call[2].tokens, call[2].producer) for call in trace.blocks()] == [
        (produced, 17, "f" * 16)
    ] * 2


def test_the_last_of_several_attempts_produced_the_message() -> None:
    trace = _Trace()
    for span in "ef":
        trace.conversation.produced(ToolMessage("same", tool_call_id="1"), span * 16)
    trace.call(ToolMessage("same", tool_call_id="1"))
    assert trace.blocks()[0][0].producer == "f" * 16


def test_an_id_that_is_set_in_place_changes_neither_hash_nor_producer() -> None:
    trace = _Trace()
    result = _result(1)
    produced = trace.conversation.produced(result, "f" * 16)
    result.id = "set by langgraph"
    for _ in range(2):
        attributes = trace.call(result)
    assert _new_blocks(attributes) == 0
    assert [(block.hash, block.producer) for call in trace.blocks() for block in call] == [(produced, "f" * 16)] * 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(HumanMessage("x"), SystemMessage("x"), id="role"),
        pytest.param(
            ChatMessage(content="x", role="critic"), ChatMessage(content="x", role="judge"), id="a role of its own"
        ),
        pytest.param(HumanMessage("x"), HumanMessage("y"), id="text"),
        pytest.param(HumanMessage("x"), HumanMessage(["x"]), id="text and a list of it"),
        pytest.param(_answer(1), _answer(1).model_copy(update={"tool_calls": []}), id="tool calls"),
        pytest.param(
            AIMessage("", invalid_tool_calls=[{"name": "t", "args": "{", "id": "1", "error": None}]),
            AIMessage("", invalid_tool_calls=[{"name": "t", "args": "[", "id": "1", "error": None}]),
            id="malformed tool calls",
        ),
    ],
)
def test_messages_that_differ_in_what_is_sent_differ(one: BaseMessage, other: BaseMessage) -> None:
    trace = _Trace()
    trace.call(one)
    assert _new_blocks(trace.call(other)) == 1
    assert trace.is_right()


def test_equal_results_of_two_tool_calls_have_one_fingerprint() -> None:
    conversation = _conversation()
    results = [ToolMessage("same", tool_call_id=call, id=call) for call in "12"]
    assert len({conversation.produced(result, "a" * 16) for result in results}) == 1


# Any value


class _Query(BaseModel):
    text: str
    limit: int = 3


@dataclass
class _Filter:
    words: list[str]


class _Hostile:
    def _refuse(self, *_: Any) -> Any:
        raise AssertionError("code of the traced program was called")

    __repr__ = __str__ = __eq__ = __iter__ = __len__ = __bool__ = __getattr__ = _refuse


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param({"a": 1, "b": [2]}, {"b": [2], "a": 1}, id="order of a dict"),
        pytest.param(_Query(text="x"), _Query(text="x", limit=3), id="pydantic"),
        pytest.param(_Filter(["x"]), _Filter(["x"]), id="dataclass"),
        pytest.param(
            {"messages": [_answer(1)]}, {"messages": [_answer(1).model_copy(update={"id": "2"})]}, id="messages"
        ),
        pytest.param([], (), id="list and tuple"),
    ],
)
def test_equal_values_have_one_fingerprint(one: Any, other: Any) -> None:
    conversation = _conversation()
    assert conversation.fingerprint(one) == conversation.fingerprint(other) is not None


def test_different_values_have_different_fingerprints() -> None:
    values: list[Any] = [
        *(None, "", "x", {"q": "x"}, {"q": "y"}, [], {}, _Query(text="x"), _Query(text="y"), _Filter(["x"]), ["x"]),
        *({"text": "x", "limit": 3}, HumanMessage("x"), [HumanMessage("x")], [HumanMessage("x"), "x"], _result(1)),
    ]
    conversation = _conversation()
    assert len({conversation.fingerprint(value) for value in values}) == len(values)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(_Hostile(), id="foreign object"),
        pytest.param([HumanMessage("x"), _Hostile()], id="foreign object among messages"),
        pytest.param(_Query.model_construct(text=_Hostile()), id="foreign object in a model"),
        pytest.param(_Query.model_construct(), id="model without its fields"),
        pytest.param("x" * 65_537, id="too much text"),
        pytest.param([0] * 1_001, id="too many values"),
    ],
)
def test_a_value_that_cannot_be_read_within_bounds_is_unknown(value: Any) -> None:
    assert _conversation().fingerprint(value) is None


def test_a_long_conversation_in_a_state_has_a_fingerprint() -> None:
    state = {"messages": [_result(turn) for turn in range(1_500)]}
    assert _conversation().fingerprint(state) is not None


# Threads, and real agents


def test_threads_that_share_a_conversation_each_read_back_what_they_carried() -> None:
    conversation = _conversation()
    start = threading.Barrier(8)

    def run(agent: int) -> tuple[dict[str, Attributes], dict[str, int]]:
        messages: list[BaseMessage] = [SystemMessage("same"), HumanMessage(f"task {agent}")]
        calls, lengths = {}, {}
        start.wait(timeout=10)
        for turn in range(30):
            span_id = f"{agent:08x}{turn:08x}"
            calls[span_id], lengths[span_id] = conversation.carried(span_id, Carried.now(messages)), len(messages)
            answer = _answer(100 * agent + turn)
            conversation.produced(answer, span_id, tokens=turn)
            conversation.fingerprint({"messages": messages})
            messages += [answer, _result(100 * agent + turn)]
        return calls, lengths

    with ThreadPoolExecutor(8) as pool:
        runs = list(pool.map(run, range(8)))
    contexts = resolve({span_id: attributes for calls, _ in runs for span_id, attributes in calls.items()})
    for span_id, length in ((span_id, length) for _, lengths in runs for span_id, length in lengths.items()):
        context = contexts[span_id]
        assert context is not None
        assert None not in context
        assert len(context) == length
        assert [block.producer for block in context if block and block.role == "assistant"] == [
            f"{span_id[:8]}{turn:08x}" for turn in range((length - 2) // 2)
        ]


class _Listener(BaseCallbackHandler):
    """Hands a conversation what a handler would."""

    run_inline = True
    raise_error = True

    def __init__(self) -> None:
        self.trace = _Trace()
        self._spans: dict[UUID, str] = {}

    def on_chat_model_start(self, serialized: Any, messages: list[list[BaseMessage]], **kwargs: Any) -> None:
        self.trace.call(*messages[0])
        self._spans[kwargs["run_id"]] = next(reversed(self.trace.calls))

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **_: Any) -> None:
        message = response.generations[0][0].message  # type: ignore[union-attr]
        self.trace.conversation.produced(message, self._spans[run_id], tokens=5)

    def on_tool_end(self, output: Any, **_: Any) -> None:
        self.trace.conversation.produced(output, "f" * 16)


class _Agent(GenericFakeChatModel):
    """Streams each reply as one chunk, its tool calls included."""

    def bind_tools(self, tools: Any, **_: Any) -> Any:
        return self

    def _stream(self, *_: Any, **__: Any) -> Iterator[ChatGenerationChunk]:
        reply = next(self.messages)
        assert isinstance(reply, AIMessage)
        calls = [
            ToolCallChunk(name=c["name"], args=json.dumps(c["args"]), id=c["id"], index=0) for c in reply.tool_calls
        ]
        yield ChatGenerationChunk(message=AIMessageChunk(content=reply.content, tool_call_chunks=calls))


def search(query: str) -> str:
    """Search."""
    return f"found {query} " + "x" * 200


def _reply(turn: int) -> AIMessage:
    call: ToolCall = {"name": "search", "args": {"query": str(turn)}, "id": f"call_{turn}", "type": "tool_call"}
    return AIMessage(f"thought {turn}", tool_calls=[call] if turn < 6 else [])


def _run(middleware: Sequence[Any] = (), *, streamed: bool = False) -> _Trace:
    agent = create_agent(
        _Agent(messages=map(_reply, range(7))),
        [search],
        system_prompt="s",
        middleware=middleware,
        name="a",
        checkpointer=InMemorySaver(),
    )
    listener = _Listener()
    config: Any = {"callbacks": [listener], "configurable": {"thread_id": "1"}}
    question: Any = {"messages": [HumanMessage("q")]}
    if streamed:
        list(agent.stream(question, config, stream_mode="messages"))
    else:
        agent.invoke(question, config)
    return listener.trace


@pytest.mark.parametrize("streamed", [False, True], ids=["invoked", "streamed"])
def test_an_agent_run_is_read_back_with_every_producer(streamed: bool) -> None:
    trace = _run(streamed=streamed)
    assert trace.is_right()
    assert [_new_blocks(attributes) for attributes in trace.calls.values()] == [2] * 7
    for block in trace.blocks()[-1]:
        expected = {"assistant": 5}.get(block.role)
        assert block.tokens == expected
        assert (block.producer is None) == (block.role in {"system", "user"})


@pytest.mark.parametrize(
    "middleware",
    [
        pytest.param(
            lambda: ContextEditingMiddleware(edits=[ClearToolUsesEdit(trigger=100, keep=1)]), id="old results cleared"
        ),
        pytest.param(
            lambda: SummarizationMiddleware(
                model=GenericFakeChatModel(messages=itertools.repeat(AIMessage("summary"))),
                trigger=("messages", 6),
                keep=("messages", 3),
            ),
            id="history summarised",
        ),
    ],
)
def test_an_agent_whose_context_is_edited_is_read_back(middleware: Callable[[], Any]) -> None:
    trace = _run([middleware()])
    assert len(trace.calls) >= 7
    assert trace.is_right()
    assert max(_new_blocks(attributes) for attributes in trace.calls.values()) <= 3
