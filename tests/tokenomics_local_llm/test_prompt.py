from __future__ import annotations

from copy import copy
from typing import Any

import pytest

from tokenomics_local_llm import LocalLLMError, LocalModel, render_prompt

TOOL = {"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": {"type": "object"}}}
CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
QUESTION = {"role": "user", "content": "What is 1 + 1?"}
HERMES = "{{ tools | tojson }}{% for m in messages %}<tool_call>{{ m.tool_calls[0].function.arguments.a }}{% endfor %}"
TAKES_TURNS = (
    "{% for m in messages %}{% if m.role not in ('system', 'user', 'assistant') %}"
    "{{ raise_exception('no role ' ~ m.role) }}{% endif %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
)


@pytest.fixture
def llm(tiny: LocalModel) -> LocalModel:
    """A model whose chat template a test may change."""
    return LocalModel("tiny", tiny.model, copy(tiny.tokenizer))


def test_tools_go_into_the_system_message_where_the_template_has_no_place_for_them(llm: LocalModel) -> None:
    prompt = render_prompt(llm, [{"role": "system", "content": "Be brief."}, QUESTION], [TOOL])

    system, user, start = prompt.split("<|im_end|>\n")
    assert system.startswith("<|im_start|>system\nBe brief.\n\n# Tools")
    assert '"name": "add"' in system
    assert user == "<|im_start|>user\nWhat is 1 + 1?"
    assert start == "<|im_start|>assistant\n"


def test_tools_open_the_conversation_where_there_is_no_system_message(llm: LocalModel) -> None:
    assert render_prompt(llm, [QUESTION], [TOOL]).startswith("<|im_start|>system\n# Tools")


def test_without_tools_nothing_is_added(llm: LocalModel) -> None:
    assert render_prompt(llm, [QUESTION]) == ("<|im_start|>user\nWhat is 1 + 1?<|im_end|>\n<|im_start|>assistant\n")


def test_calls_and_results_become_text_that_any_template_takes(llm: LocalModel) -> None:
    llm.tokenizer.chat_template = TAKES_TURNS
    results = [{"role": "tool", "content": result, "tool_call_id": result} for result in ("2", "3")]
    calls = {"role": "assistant", "content": "Let me see.", "tool_calls": [CALL, CALL]}

    prompt = render_prompt(llm, [QUESTION, calls, *results])

    call = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
    assert prompt == (
        "user: What is 1 + 1?\n"
        f"assistant: Let me see.\n{call}\n{call}\n"
        "user: <tool_response>\n2\n</tool_response>\n<tool_response>\n3\n</tool_response>\n"
    )


def test_template_that_knows_the_format_renders_tools_and_calls_itself(llm: LocalModel) -> None:
    llm.tokenizer.chat_template = HERMES

    prompt = render_prompt(llm, [{"role": "assistant", "content": "", "tool_calls": [CALL]}], [TOOL])

    assert prompt.startswith('[{"type": "function"')
    assert prompt.endswith("<tool_call>1")


@pytest.mark.parametrize(
    "template",
    ["{{ tools }}{{ arguments }}[TOOL_CALLS]", "{{ tools }}{{ arguments }}<tool_call><function=f>"],
    ids=["other-tag", "other-body"],
)
def test_template_with_another_format_of_calls_is_not_shown_the_tools(llm: LocalModel, template: str) -> None:
    llm.tokenizer.chat_template = template + "{{ messages[0].content }}"

    assert "# Tools" in render_prompt(llm, [QUESTION], [TOOL])


def test_model_that_cannot_chat_is_refused(llm: LocalModel) -> None:
    llm.tokenizer.chat_template = None

    with pytest.raises(LocalLLMError, match="tiny has no chat template"):
        render_prompt(llm, [QUESTION])


@pytest.mark.parametrize(
    ("template", "reason"),
    [(TAKES_TURNS, "no role developer"), ("{{ nothing.at_all }}", "'nothing' is undefined")],
    ids=["refusal", "broken"],
)
def test_conversation_that_the_template_refuses_is_an_error(llm: LocalModel, template: str, reason: str) -> None:
    llm.tokenizer.chat_template = template
    messages: list[dict[str, Any]] = [{"role": "developer", "content": "x"}]

    with pytest.raises(LocalLLMError, match=f"chat template of tiny refuses this conversation: {reason}"):
        render_prompt(llm, messages)
