from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest

from tokenomics_local_llm import (
    GenerationOptions,
    LocalModel,
    ToolCall,
    ToolCallParser,
    UnsupportedSchemaError,
    generate,
    grammar,
    render_prompt,
)

ANYTHING = 1000.0  # a temperature at which every token that is allowed is about equally probable
NODE = {
    "type": "object",
    "properties": {"value": {"type": "integer"}, "next": {"anyOf": [{"$ref": "#/definitions/Node"}, {"type": "null"}]}},
    "required": ["value", "next"],
}
PROPERTIES: dict[str, dict[str, Any]] = {
    "integers": {"a": {"type": "integer", "minimum": 0, "maximum": 99}, "b": {"type": "integer"}},
    "numbers": {"x": {"type": "number", "exclusiveMinimum": -1, "maximum": 1}},
    "enum": {"unit": {"enum": ["mètre", "yard", 3, None]}, "sign": {"const": "+"}},
    "booleans": {"on": {"type": "boolean"}, "off": {"type": "null"}},
    "strings": {"name": {"type": "string", "maxLength": 8}, "code": {"type": "string", "pattern": "^[a-f]{2}[0-9]+$"}},
    "nested": {"point": {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}},
    "arrays": {"xs": {"type": "array", "items": {"enum": [1, 2]}, "minItems": 1, "maxItems": 3}},
    "recursive": {"list": {"$ref": "#/definitions/Node"}},
    "none": {},
}


def a_tool(name: str = "act", properties: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    properties = {} if properties is None else properties
    parameters = {"type": "object", "properties": properties, "required": list(properties)} | more
    return {"type": "function", "function": {"name": name, "description": "Acts.", "parameters": parameters}}


def forced(
    model: LocalModel, *tools: dict[str, Any], seed: int = 0, parallel: bool = False, temperature: float = 1.5
) -> list[str | ToolCall]:
    options = GenerationOptions(
        grammar=grammar(tools, parallel=parallel),
        temperature=temperature,
        seed=seed,
        max_tokens=2000,
        stop=('"', "a", "}"),  # must not cut what is forced
    )
    delta = generate(model, "prompt", options)
    assert delta.finish_reason == "stop"
    parser = ToolCallParser()
    return [*parser.feed(delta.text), *parser.close()]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("properties", PROPERTIES.values(), ids=PROPERTIES)
def test_forced_call_is_valid_whatever_the_weights(
    make_model: Callable[..., LocalModel], properties: dict[str, Any], seed: int
) -> None:
    tool = a_tool(properties=properties, definitions={"Node": NODE})

    (call,) = forced(make_model(seed=seed), tool, seed=seed)

    assert isinstance(call, ToolCall)
    assert call.name == "act"
    jsonschema.validate(call.arguments, tool["function"]["parameters"])


def test_forced_call_invents_no_arguments(tiny: LocalModel) -> None:
    tool = a_tool(properties={"n": {"type": "integer"}})

    calls = [forced(tiny, tool, seed=seed)[0] for seed in range(10)]

    assert {tuple(call.arguments or ()) for call in calls if isinstance(call, ToolCall)} == {("n",)}


def test_schema_that_lets_other_properties_in_keeps_doing_so(tiny: LocalModel) -> None:
    tool = a_tool(additionalProperties={"type": "integer"})

    calls = [forced(tiny, tool, seed=seed)[0] for seed in range(10)]

    assert any(call.arguments for call in calls if isinstance(call, ToolCall))


def test_any_of_several_tools_may_be_called(tiny: LocalModel) -> None:
    tools = [a_tool("add"), a_tool("addendum"), a_tool("größe"), a_tool('qu"ote')]

    calls = [part for seed in range(40) for part in forced(tiny, *tools, seed=seed, temperature=ANYTHING)]

    assert {call.name for call in calls if isinstance(call, ToolCall)} == {"add", "addendum", "größe", 'qu"ote'}


def test_only_parallel_calls_may_be_more_than_one(tiny: LocalModel) -> None:
    counts = {
        parallel: {
            sum(isinstance(part, ToolCall) for part in forced(tiny, a_tool(), seed=seed, parallel=parallel))
            for seed in range(20)
        }
        for parallel in (False, True)
    }

    assert counts[False] == {1}
    assert max(counts[True]) > 1


def test_call_that_leaves_no_choice_costs_no_pass_through_the_model(
    tiny: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiny.model, "forward", None)

    assert forced(tiny, a_tool())


def test_answer_follows_its_schema(tiny: LocalModel) -> None:
    schema = {"type": "object", "properties": {"mood": {"enum": ["good", "bad"]}}, "required": ["mood"]}

    delta = generate(tiny, "prompt", GenerationOptions(grammar=grammar(answer=schema), temperature=1.5))

    assert json.loads(delta.text)["mood"] in {"good", "bad"}


def test_answer_may_be_a_call_instead_where_there_are_tools(tiny: LocalModel) -> None:
    call_or_number = grammar([a_tool()], answer={"type": "integer"})
    options = [GenerationOptions(grammar=call_or_number, temperature=ANYTHING, seed=seed) for seed in range(40)]

    texts = [generate(tiny, "prompt", option).text for option in options]

    assert {text.startswith("<tool_call>") for text in texts} == {True, False}


def test_real_model_calls_with_what_it_was_asked(smollm2: LocalModel) -> None:
    tool = a_tool("add", {"a": {"type": "integer"}, "b": {"type": "integer"}})
    prompt = render_prompt(smollm2, [{"role": "user", "content": "What is 17 + 25?"}], [tool])

    delta = generate(smollm2, prompt, GenerationOptions(grammar=grammar([tool])))

    assert delta.text == '<tool_call>\n{"name": "add", "arguments": {"a": 17, "b": 25}}\n</tool_call>'


@pytest.mark.parametrize(
    "schema",
    [
        {"not": {"type": "string"}},
        {"type": "string", "format": "made-up"},
        {"type": "banana"},
        {"enum": []},
        {"type": "integer", "minimum": 2, "maximum": 1},
    ],
    ids=["not", "format", "type", "empty", "contradiction"],
)
def test_schema_that_cannot_be_enforced_is_refused(tiny: LocalModel, schema: dict[str, Any]) -> None:
    options = GenerationOptions(grammar=grammar([a_tool(properties={"x": schema})]))

    with pytest.raises(UnsupportedSchemaError, match="cannot be enforced"):
        generate(tiny, "prompt", options)


def test_grammar_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a tool to call or the schema of an answer"):
        grammar()
