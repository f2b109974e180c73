"""What of a run is learned, what is context only, and what is taken out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tokenomics_plugin.dataset import Conversation, conversations
from tokenomics_plugin.dataset.chat import Exchange, Json
from tokenomics_plugin.trajectory import SideEffect
from trajectories import Script

QUESTION: Json = {"role": "user", "content": "?"}
LIST_PRICE: Json = {"type": "function", "function": {"name": "price"}}


class Dialogue:
    """A script whose words are kept beside it."""

    def __init__(self, *sent: Json) -> None:
        self.script = Script()
        self.exchanges: dict[str, Exchange] = {}
        self.messages = list(sent or (QUESTION,))

    def says(self, words: str, *, calls: list[Json] | None = None, is_whole: bool = True, **more: Any) -> Json:
        """The model says something; `more` is of the span."""
        tools = more.pop("tools", [LIST_PRICE])
        answer = {"role": "assistant", "content": words} | ({"tool_calls": calls} if calls else {})
        call = self.script.model(words or json.dumps(calls), **more)
        self.exchanges[call.span_id] = Exchange(sent=[*self.messages], answer=answer, tools=tools, is_whole=is_whole)
        self.messages.append(answer)
        return answer

    def looks_up(self, item: str, result: str = "3", **more: Any) -> None:
        """The model asks for a price and gets it; `more` is of the tool's span."""
        call_id = f"id-{len(self.messages)}"
        function = {"name": "price", "arguments": json.dumps({"item": item})}
        self.says("", calls=[{"id": call_id, "type": "function", "function": function}])
        self.script.tool("price", item, result, call_id=call_id, **more)
        self.messages.append({"role": "tool", "tool_call_id": call_id, "content": result})

    def conversations(self) -> list[Conversation]:
        return conversations(self.script.trajectory(), self.exchanges)


@pytest.fixture
def dialogue() -> Dialogue:
    return Dialogue()


def learned(conversation: Conversation) -> list[str]:
    """Each message in a word; what is context only in brackets."""
    said = []
    for message in conversation.messages:
        calls = [json.loads(call["function"]["arguments"])["item"] for call in message.get("tool_calls", ())]
        word = message["content"] or f"price of {' and '.join(calls)}"
        said.append(f"({word})" if message.get("weight") == 0 else word)
    return said


def test_calls_that_go_on_from_one_another_are_one_conversation(dialogue: Dialogue) -> None:
    dialogue.looks_up("pen")
    dialogue.looks_up("lamp", "25")
    dialogue.says("28")

    (conversation,) = dialogue.conversations()

    assert learned(conversation) == ["?", "price of pen", "3", "price of lamp", "25", "28"]
    assert conversation.tools == (LIST_PRICE,)


def test_a_call_that_is_offered_other_tools_is_learned_by_itself(dialogue: Dialogue) -> None:
    dialogue.looks_up("pen")
    dialogue.says("3 dollars", tools=[])

    with_tool, without = dialogue.conversations()

    assert learned(with_tool) == ["?", "price of pen"]
    assert learned(without) == ["?", "(price of pen)", "3", "3 dollars"]
    assert without.tools == ()


def test_what_another_run_said_is_context_only() -> None:
    dialogue = Dialogue(QUESTION, {"role": "assistant", "content": "an example"}, QUESTION)
    dialogue.says("3")

    (conversation,) = dialogue.conversations()

    assert learned(conversation) == ["?", "(an example)", "?", "3"]


def test_two_calls_that_go_on_from_the_same_turn_are_two_conversations_that_learn_it_once(dialogue: Dialogue) -> None:
    dialogue.looks_up("pen")
    before = [*dialogue.messages]
    dialogue.says("one")
    dialogue.messages = before
    dialogue.says("other")

    first, second = dialogue.conversations()

    assert learned(first) == ["?", "price of pen", "3", "one"]
    assert learned(second) == ["?", "(price of pen)", "3", "other"]


@pytest.mark.parametrize(
    "said",
    [{"is_whole": False}, {"error_type": "Timeout"}, {"superseded_by": "f" * 16}, {"run_state": "cancelled"}],
    ids=["cut off", "failed", "replaced", "cancelled"],
)
def test_an_answer_that_came_to_nothing_is_not_learned(dialogue: Dialogue, said: dict[str, Any]) -> None:
    dialogue.looks_up("pen")
    dialogue.says("and", **said)

    (conversation,) = dialogue.conversations()

    assert learned(conversation) == ["?", "price of pen"]


def test_a_run_that_says_nothing_whole_teaches_nothing(dialogue: Dialogue) -> None:
    dialogue.says("and", is_whole=False)
    assert dialogue.conversations() == []


def test_a_needless_read_is_taken_out_with_its_result(dialogue: Dialogue) -> None:
    dialogue.looks_up("pen")
    dialogue.looks_up("pen")
    dialogue.says("3")

    (conversation,) = dialogue.conversations()

    assert learned(conversation) == ["?", "price of pen", "3", "3"]
    assert [message.get("tool_call_id") for message in conversation.messages if message["role"] == "tool"] == ["call_1"]


def test_a_read_that_may_have_changed_stays(dialogue: Dialogue) -> None:
    dialogue.looks_up("pen", effect=SideEffect.UNKNOWN)
    dialogue.looks_up("pen", effect=SideEffect.UNKNOWN)
    dialogue.says("3")

    (conversation,) = dialogue.conversations()

    assert learned(conversation) == ["?", "price of pen", "3", "price of pen", "3", "3"]


def test_a_failed_call_that_was_made_good_is_taken_out(dialogue: Dialogue) -> None:
    dialogue.looks_up("pen", "try again", error_type="Timeout")
    dialogue.looks_up("pen")
    dialogue.says("3")

    (conversation,) = dialogue.conversations()

    assert learned(conversation) == ["?", "price of pen", "3", "3"]


def test_a_failed_call_that_was_corrected_is_context_for_the_correction(dialogue: Dialogue) -> None:
    dialogue.looks_up("pne", "no such thing", error_type="KeyError")
    dialogue.looks_up("pen")
    dialogue.says("3")

    (conversation,) = dialogue.conversations()

    assert learned(conversation) == ["?", "(price of pne)", "no such thing", "price of pen", "3", "3"]


def test_equal_runs_have_equal_keys_whatever_their_ids() -> None:
    one, other = Dialogue(), Dialogue()
    for dialogue, more in ((one, {}), (other, {"keep": False})):
        if more:
            dialogue.script.model("from elsewhere")
        dialogue.looks_up("pen")
        dialogue.says("3")
    other_ids = {call["id"]: f"x{call['id']}" for message in other.messages for call in message.get("tool_calls", ())}
    renamed = json.loads(_replaced(json.dumps([vars(each) for each in other.exchanges.values()]), other_ids))
    other.exchanges = {span: Exchange(**each) for span, each in zip(other.exchanges, renamed, strict=True)}

    ((first,), (second,)) = one.conversations(), other.conversations()

    assert first.key == second.key


def _replaced(text: str, names: dict[str, str]) -> str:
    for old, new in names.items():
        text = text.replace(f'"{old}"', f'"{new}"')
    return text
