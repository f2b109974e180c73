from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from tokenomics_local_llm import LocalModel, render_prompt
from tokenomics_local_llm.diffusion_blocks.cross_entropy import IGNORED
from tokenomics_local_llm.diffusion_blocks.training_text import TrainingTextError, read_rows, split_rows


def write(folder: Path, *lines: Any) -> Path:
    path = folder / "data.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")
    return path


def learned(model: LocalModel, path: Path) -> str:
    rows = read_rows(path, model, length=400)
    return str(model.tokenizer.decode(rows.targets[0][rows.targets[0] != IGNORED]))


def test_running_text_is_learned_whole(tiny: LocalModel, tmp_path: Path) -> None:
    (tmp_path / "data.txt").write_text("the end " * 20, encoding="utf-8")

    rows = read_rows(tmp_path / "data.txt", tiny, length=8)

    assert rows.learned_tokens == rows.input_ids.numel()
    assert tiny.decode(rows.input_ids[0].tolist()).startswith("the end")


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ({"prompt": "the", "completion": " end"}, " end<|im_end|>"),
        ({"text": "the end"}, " end<|im_end|>"),  # nothing precedes the first token
        (
            {"messages": [{"role": "user", "content": "add"}, {"role": "assistant", "content": "the end"}]},
            "the end<|im_end|>",
        ),
    ],
    ids=["prompt", "text", "messages"],
)
def test_the_answer_of_an_example_is_learned_with_its_end(
    tiny: LocalModel, tmp_path: Path, line: dict[str, Any], answer: str
) -> None:
    assert learned(tiny, write(tmp_path, line)) == answer


def test_a_conversation_is_read_as_it_will_be_when_served(tiny: LocalModel, tmp_path: Path) -> None:
    asked = [{"role": "user", "content": "add"}]
    tools = [{"type": "function", "function": {"name": "add", "parameters": {}}}]
    answer = {"role": "assistant", "content": "the end"}

    rows = read_rows(write(tmp_path, {"messages": [*asked, answer], "tools": tools}), tiny, length=4000)

    prompt = tiny.encode(render_prompt(tiny, asked, tools))
    assert rows.input_ids[0, : len(prompt)].tolist() == prompt
    assert (rows.targets[0, : len(prompt) - 1] == IGNORED).all()


def test_a_tool_call_is_learned_as_it_is_written(tiny: LocalModel, tmp_path: Path) -> None:
    call = {"function": {"name": "add", "arguments": {"a": 1}}}
    messages = [{"role": "user", "content": "add"}, {"role": "assistant", "content": None, "tool_calls": [call]}]

    assert learned(tiny, write(tmp_path, {"messages": messages})) == (
        '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call><|im_end|>'
    )


CALL: dict[str, Any] = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {}}}]
DIALOGUE: list[dict[str, Any]] = [
    {"role": "user", "content": "add"},
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "call_1", "content": "the"},
    {"role": "assistant", "content": "the end"},
]
CALLED = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call><|im_end|>'


@pytest.mark.parametrize(
    ("weights", "said"),
    [((1, 1), f"{CALLED}the end<|im_end|>"), ((0, 1), "the end<|im_end|>"), ((1, 0), CALLED)],
    ids=["all", "the last", "the first"],
)
def test_of_a_conversation_all_is_learned_that_the_assistant_says_unless_its_weight_is_0(
    tiny: LocalModel, tmp_path: Path, weights: tuple[int, int], said: str
) -> None:
    first, last = weights
    messages = [DIALOGUE[0], DIALOGUE[1] | {"weight": first}, DIALOGUE[2], DIALOGUE[3] | {"weight": last}]

    rows = read_rows(write(tmp_path, {"messages": messages, "tools": TOOLS}), tiny, length=4000)

    assert len(rows) == 1
    assert tiny.tokenizer.decode(rows.targets[0][rows.targets[0] != IGNORED]) == said


def test_each_answer_follows_the_prompt_that_is_served_at_its_place(tiny: LocalModel, tmp_path: Path) -> None:
    rows = read_rows(write(tmp_path, {"messages": DIALOGUE, "tools": TOOLS}), tiny, length=4000)

    served = DIALOGUE[1] | {"tool_calls": [{"function": {"name": "add", "arguments": {"a": 1}}}]}
    for place, before in ((1, DIALOGUE[:1]), (3, [DIALOGUE[0], served, DIALOGUE[2]])):
        prompt = tiny.encode(render_prompt(tiny, before, TOOLS))
        assert rows.input_ids[0, : len(prompt)].tolist() == prompt, place
        assert rows.targets[0, len(prompt) - 1] != IGNORED


def test_a_conversation_that_the_template_rewrites_becomes_several_examples(tiny: LocalModel, tmp_path: Path) -> None:
    # As templates do that drop the reasoning of earlier turns.
    template = (
        "{% for message in messages %}{{ message.role }}:{{ message.content if loop.last else '...' }}\n{% endfor %}"
        "assistant:"
    )
    tokenizer = copy.deepcopy(tiny.tokenizer)
    tokenizer.chat_template = template
    model = LocalModel("forgets", tiny.model, tokenizer)
    messages = [{"role": role, "content": "the end"} for role in ("user", "assistant", "user", "assistant")]

    rows = read_rows(write(tmp_path, {"messages": messages}), model, length=400)

    assert len(rows) == 2
    assert [model.tokenizer.decode(row[row != IGNORED]) for row in rows.targets] == ["the end<|im_end|>"] * 2


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"question": "?"}, "none of messages, prompt, text"),
        ({"messages": [{"role": "user", "content": "add"}]}, "last message is the user's"),
        ({"prompt": "the"}, "line 1 .*completion"),
        (
            {"messages": [{"role": "assistant", "content": "the", "weight": 0}]},
            "each of its 1 answers has the weight 0",
        ),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "add", "arguments": "[]"}}]}]},
            "arguments of add must be an object",
        ),
        ([1], "line 1"),
    ],
    ids=["unknown form", "no answer", "half", "nothing to learn", "no arguments", "no object"],
)
def test_a_line_that_is_no_example_is_named(tiny: LocalModel, tmp_path: Path, line: Any, message: str) -> None:
    with pytest.raises(TrainingTextError, match=message):
        read_rows(write(tmp_path, line), tiny, length=16)


def test_a_file_that_holds_too_little_is_refused(tiny: LocalModel, tmp_path: Path) -> None:
    (tmp_path / "data.txt").write_text("end", encoding="utf-8")

    with pytest.raises(TrainingTextError, match=r"data\.txt"):
        read_rows(tmp_path / "data.txt", tiny, length=400)


def test_the_last_rows_are_held_out(tiny: LocalModel, tmp_path: Path) -> None:
    (tmp_path / "data.txt").write_text("the end " * 40, encoding="utf-8")
    rows = read_rows(tmp_path / "data.txt", tiny, length=8)

    train, held_out = split_rows(rows, held_out=3)

    assert (len(train), len(held_out)) == (len(rows) - 3, 3)
    with pytest.raises(TrainingTextError, match="leave none to train on"):
        split_rows(rows, held_out=len(rows))
