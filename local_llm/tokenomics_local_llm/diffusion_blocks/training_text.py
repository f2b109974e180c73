"""Files to fine-tune on: running text, or JSON lines of examples.

A line holds one of

    {"messages": [...], "tools": [...]}    a conversation; its last message, the assistant's, is learned
    {"prompt": "...", "completion": "..."} the completion is learned
    {"text": "..."}                        all of it is learned

What is learned ends with the token that ends an answer. Any other file is running text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from tokenomics_local_llm.diffusion_blocks.rows import Example, Rows, pack, pad
from tokenomics_local_llm.errors import LocalLLMError
from tokenomics_local_llm.model import LocalModel
from tokenomics_local_llm.prompt import render_answer, render_prompt

__all__ = ["TrainingTextError", "read_rows", "split_rows"]


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
    examples = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            examples.append(_example(json.loads(line), model))
        except (KeyError, TypeError, ValueError) as error:
            raise TrainingTextError(f"line {number} of {path} is no example: {error!r}") from error
    return examples


def _example(line: Mapping[str, Any], model: LocalModel) -> Example:
    for key, read in _FORMS.items():
        if key in line:
            prompt, answer = read(line, model)
            break
    else:
        raise ValueError(f"it has none of {', '.join(_FORMS)}")
    ends = [model.tokenizer.eos_token_id] if model.tokenizer.eos_token_id is not None else []
    given, said = model.encode(prompt), [*model.encode(answer), *ends]
    return Example(tokens=[*given, *said], learned=[False] * len(given) + [True] * len(said))


def _conversation(line: Mapping[str, Any], model: LocalModel) -> tuple[str, str]:
    *before, last = line["messages"]
    if last["role"] != "assistant":
        raise ValueError(f"its last message is the {last['role']}'s, and the assistant's is to be learned")
    return render_prompt(model, before, line.get("tools") or ()), render_answer(last)


_FORMS: Final[dict[str, Callable[[Mapping[str, Any], LocalModel], tuple[str, str]]]] = {
    "messages": _conversation,
    "prompt": lambda line, model: (line["prompt"], line["completion"]),
    "text": lambda line, model: ("", line["text"]),
}
