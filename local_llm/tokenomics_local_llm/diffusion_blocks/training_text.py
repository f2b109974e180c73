"""Files to fine-tune on: running text, or JSON lines of examples.

A line holds one of

    {"messages": [...], "tools": [...]}    a conversation; what the assistant says in it is learned
    {"prompt": "...", "completion": "..."} the completion is learned
    {"text": "..."}                        all of it is learned

Messages and tools are in OpenAI's form, which `tokenomics dataset export` writes: a message with `"weight": 0` is
context only. Each answer is learned after the very prompt that the model is served with at that place, so a
conversation is one example where its prompts go on from one another, and several where the chat template rewrites what
went before. What is learned ends with the token that ends an answer. Any other file is running text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tokenomics_local_llm.diffusion_blocks.rows import Example, Rows, pack, pad
from tokenomics_local_llm.errors import LocalLLMError
from tokenomics_local_llm.model import LocalModel
from tokenomics_local_llm.prompt import render_answer, render_prompt

__all__ = ["TrainingTextError", "read_rows", "split_rows"]

_Turn = tuple[str, str]
"""What is given, and what is to be said next."""


class TrainingTextError(LocalLLMError, ValueError):
    """A file holds nothing that can be learned."""


def read_rows(path: Path, model: LocalModel, *, length: int) -> Rows:
    """Rows of tokens of a file.

    Args:
        path: JSON lines if its name ends in .jsonl, else running text.
        model: Whose tokens and chat template.
        length: Tokens a row; what is longer is cut off.

    Raises:
        TrainingTextError: If the file is none, or holds nothing to learn.
    """
    try:
        if path.suffix == ".jsonl":
            return pad(_examples(path, model), length=length)
        return pack(model.encode(path.read_text(encoding="utf-8")), length=length)
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise TrainingTextError(f"nothing can be learned from {path}: {error}") from error


def split_rows(rows: Rows, *, held_out: int) -> tuple[Rows, Rows]:
    """The rows without their last ones, and those.

    Raises:
        TrainingTextError: If that leaves nothing to train on.
    """
    if not 0 < held_out < len(rows):
        raise TrainingTextError(f"{held_out} held-out rows of {len(rows)} leave none to train on: add text")
    return rows.at(range(len(rows) - held_out)), rows.at(range(len(rows) - held_out, len(rows)))


def _examples(path: Path, model: LocalModel) -> list[Example]:
    examples = list[Example]()
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            examples += _examples_of(json.loads(line), model)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise TrainingTextError(f"line {number} of {path} is no example: {error!r}") from error
    return examples


def _examples_of(line: Mapping[str, Any], model: LocalModel) -> list[Example]:
    for key, read in _FORMS.items():
        if key in line:
            return [_example(turns, model) for turns in read(line, model)]
    raise ValueError(f"it has none of {', '.join(_FORMS)}")


def _example(turns: Sequence[_Turn], model: LocalModel) -> Example:
    ends = [model.tokenizer.eos_token_id] if model.tokenizer.eos_token_id is not None else []
    tokens, learned = list[int](), list[bool]()
    for given, said in turns:
        before, answer = model.encode(given), [*model.encode(said), *ends]
        tokens += [*before, *answer]
        learned += [False] * len(before) + [True] * len(answer)
    return Example(tokens=tokens, learned=learned)


def _conversation(line: Mapping[str, Any], model: LocalModel) -> list[list[_Turn]]:
    messages = [_as_served(message) for message in line["messages"]]
    if messages[-1]["role"] != "assistant":
        raise ValueError(f"its last message is the {messages[-1]['role']}'s, and the assistant's is to be learned")
    examples, written = list[list[_Turn]](), ""
    for place in _learned(line["messages"]):
        prompt, answer = render_prompt(model, messages[:place], line.get("tools") or ()), render_answer(messages[place])
        if examples and prompt.startswith(written):
            examples[-1].append((prompt.removeprefix(written), answer))
        else:
            examples.append([(prompt, answer)])
        written = prompt + answer + (model.tokenizer.eos_token or "")
    return examples


def _learned(messages: Sequence[Mapping[str, Any]]) -> list[int]:
    answers = [place for place, message in enumerate(messages) if message["role"] == "assistant"]
    learned = [place for place in answers if messages[place].get("weight", 1) != 0]
    if not learned:
        raise ValueError(f"each of its {len(answers)} answers has the weight 0")
    return learned


def _as_served(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message as a chat model of this package is given it: arguments are an object, no content is no text."""
    served = {key: message[key] for key in ("role", "tool_call_id") if key in message}
    calls = [{"type": "function", "function": _function(call["function"])} for call in message.get("tool_calls") or ()]
    return {**served, "content": message.get("content") or ""} | ({"tool_calls": calls} if calls else {})


def _function(function: Mapping[str, Any]) -> dict[str, Any]:
    arguments = function["arguments"]
    values = json.loads(arguments) if isinstance(arguments, str) else arguments
    if not isinstance(values, dict):
        raise ValueError(f"arguments of {function['name']} must be an object, got {arguments!r}")
    return {"name": function["name"], "arguments": values}


_FORMS: Final[dict[str, Callable[[Mapping[str, Any], LocalModel], list[list[_Turn]]]]] = {
    "messages": _conversation,
    "prompt": lambda line, model: [[(line["prompt"], line["completion"])]],
    "text": lambda line, model: [[("", line["text"])]],
}
