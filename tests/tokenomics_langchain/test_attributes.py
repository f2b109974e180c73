from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, Generation, LLMResult
from opentelemetry.trace import SpanKind

from tokenomics_langchain.attributes import (
    known,
    model_span_kind,
    request_attributes,
    response_attributes,
    token_usage,
)
from tokenomics_plugin.usage import TokenUsage


def request(**given: Any) -> dict[str, Any]:
    empty: dict[str, Any] = {"metadata": {}, "params": {}, "options": {}, "serialized": {}}
    return request_attributes("chat", **(empty | given))


def chat_result(*messages: AIMessage, llm_output: dict[str, Any] | None = None) -> LLMResult:
    return LLMResult(generations=[[ChatGeneration(message=message) for message in messages]], llm_output=llm_output)


def test_unknown_values_are_left_out_and_false_ones_kept() -> None:
    assert known(("a", None), ("b", 0), ("c", False), ("d", "")) == {"b": 0, "c": False, "d": ""}


@pytest.mark.parametrize(
    ("langchain", "conventions"),
    [
        ("openai", "openai"),
        ("azure", "azure.ai.openai"),
        ("amazon_bedrock", "aws.bedrock"),
        ("google_genai", "gcp.gemini"),
        ("google_vertexai", "gcp.vertex_ai"),
        ("mistral", "mistral_ai"),
        ("xai", "x_ai"),
        ("ibm", "ibm.watsonx.ai"),
        ("ollama", "ollama"),
    ],
)
def test_providers_get_the_conventions_names(langchain: str, conventions: str) -> None:
    assert request(metadata={"ls_provider": langchain})["gen_ai.provider.name"] == conventions


@pytest.mark.parametrize(
    ("provider", "kind"), [("openai", SpanKind.CLIENT), ("local", SpanKind.INTERNAL), (None, SpanKind.CLIENT)]
)
def test_a_model_in_this_process_is_no_client(provider: str | None, kind: SpanKind) -> None:
    assert model_span_kind({"ls_provider": provider}) is kind


def test_request_parameters_have_the_conventions_types() -> None:
    attributes = request(
        metadata={"ls_model_name": "gpt-5", "ls_provider": "openai", "ls_temperature": 1, "ls_stop": ["END"]},
        params={
            "max_completion_tokens": 100,
            "top_p": 1,
            "top_k": 40,
            "seed": 7,
            "n": 2,
            "frequency_penalty": 0,
            "presence_penalty": 0.5,
            "stream": True,
        },
    )

    assert attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-5",
        "gen_ai.request.stream": True,
        "gen_ai.request.choice.count": 2,
        "gen_ai.request.seed": 7,
        "gen_ai.request.max_tokens": 100,
        "gen_ai.request.temperature": 1.0,
        "gen_ai.request.top_p": 1.0,
        "gen_ai.request.top_k": 40,
        "gen_ai.request.frequency_penalty": 0.0,
        "gen_ai.request.presence_penalty": 0.5,
        "gen_ai.request.stop_sequences": ("END",),
    }
    doubles = ("temperature", "top_p", "frequency_penalty", "presence_penalty")
    assert all(isinstance(attributes[f"gen_ai.request.{name}"], float) for name in doubles)


@pytest.mark.parametrize("spelling", ["model", "model_name", "model_id"])
def test_a_model_is_found_among_the_parameters(spelling: str) -> None:
    assert request(params={spelling: "m"})["gen_ai.request.model"] == "m"


@pytest.mark.parametrize(
    "params",
    [
        {"temperature": "warm", "top_p": True, "seed": 1.5, "max_tokens": object(), "stop": 3, "model": 7},
        {"temperature": None, "stop": [], "n": 1, "stream": False, "response_format": None},
    ],
    ids=["wrong types", "not set"],
)
def test_parameters_that_say_nothing_are_left_out(params: dict[str, Any]) -> None:
    assert request(params=params) == {"gen_ai.operation.name": "chat"}


@pytest.mark.parametrize(
    ("params", "options", "output_type"),
    [
        ({"response_format": {"type": "json_schema"}}, {}, "json"),
        ({"response_format": {"type": "text"}}, {}, "text"),
        ({"response_format": AIMessage}, {}, "json"),
        ({}, {"ls_structured_output_format": {"schema": {}}}, "json"),
    ],
    ids=["json schema", "text", "a class", "with_structured_output"],
)
def test_a_requested_format_is_the_output_type(params: Any, options: Any, output_type: str) -> None:
    assert request(params=params, options=options)["gen_ai.output.type"] == output_type


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://llm.example:8443/v1?key=secret", {"server.address": "llm.example", "server.port": 8443}),
        ("https://llm.example/v1", {"server.address": "llm.example"}),
        ("https://llm.example:port/", {}),
        ("nonsense", {}),
    ],
    ids=["with a port", "without", "with a bad port", "not an address"],
)
def test_the_server_is_read_from_the_models_address(url: str, expected: dict[str, Any]) -> None:
    attributes = request(serialized={"kwargs": {"openai_api_base": url}})
    assert {name: value for name, value in attributes.items() if name.startswith("server.")} == expected


@pytest.mark.parametrize(
    "message",
    [
        AIMessage("", response_metadata={"id": "resp-1", "model_name": "m-1", "finish_reason": "stop"}),
        AIMessage("", id="resp-1", response_metadata={"model": "m-1", "stop_reason": "stop"}),
        AIMessage("", id="resp-1", response_metadata={"model_name": "m-1", "done_reason": "stop"}),
    ],
    ids=["openai", "anthropic", "ollama"],
)
def test_a_response_tells_its_id_model_and_finish_reason(message: AIMessage) -> None:
    assert response_attributes(chat_result(message)) == {
        "gen_ai.response.id": "resp-1",
        "gen_ai.response.model": "m-1",
        "gen_ai.response.finish_reasons": ("stop",),
    }


def test_a_local_model_tells_what_its_cache_held() -> None:
    held = {"kv_cache": "oscar", "kv_cache_bits_per_element": 2.5, "kv_cache_bytes": 1000}

    assert response_attributes(chat_result(AIMessage("", response_metadata=held))) == {
        "tokenomics.kv_cache.kind": "oscar",
        "tokenomics.kv_cache.bits_per_element": 2.5,
        "tokenomics.kv_cache.bytes": 1000,
    }


def test_a_cache_that_held_nothing_has_no_bits() -> None:
    held = {"kv_cache": "full", "kv_cache_bits_per_element": None, "kv_cache_bytes": 0}

    assert response_attributes(chat_result(AIMessage("", response_metadata=held))) == {
        "tokenomics.kv_cache.kind": "full",
        "tokenomics.kv_cache.bytes": 0,
    }


@pytest.mark.parametrize("generated", ["lc_run--0199", "run-0199", "lc_0199"])
def test_an_id_that_langchain_made_up_is_no_response_id(generated: str) -> None:
    assert response_attributes(chat_result(AIMessage("", id=generated))) == {}


def test_every_choice_has_its_finish_reason_but_usage_counts_once() -> None:
    usage: Any = {"input_tokens": 10, "output_tokens": 8, "total_tokens": 18}
    first = AIMessage("a", usage_metadata=usage, response_metadata={"finish_reason": "stop"})
    second = AIMessage("b", usage_metadata=usage, response_metadata={"finish_reason": "length"})

    result = chat_result(first, second)

    assert response_attributes(result)["gen_ai.response.finish_reasons"] == ("stop", "length")
    assert token_usage(result) == TokenUsage.from_langchain(usage)


def test_a_response_that_says_nothing_has_no_attributes() -> None:
    assert response_attributes(LLMResult(generations=[])) == {}
    assert response_attributes(LLMResult(generations=[[Generation(text="hi")]])) == {}


OPENAI = {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 4}}
RESPONSES = {"input_tokens": 10, "output_tokens": 5, "input_tokens_details": {"cached_tokens": 4}}
ANTHROPIC = {"input_tokens": 6, "output_tokens": 5, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 0}


@pytest.mark.parametrize(
    "result",
    [
        chat_result(AIMessage(""), llm_output={"token_usage": OPENAI}),
        chat_result(AIMessage(""), llm_output={"token_usage": RESPONSES}),
        chat_result(AIMessage("", response_metadata={"usage": ANTHROPIC})),
        LLMResult(generations=[[Generation(text="", generation_info={"token_usage": OPENAI})]]),
    ],
    ids=["openai", "openai responses", "anthropic", "text completion"],
)
def test_usage_falls_back_to_what_the_provider_reported(result: LLMResult) -> None:
    usage = token_usage(result)

    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens, usage.cache_read_tokens) == (10, 5, 4)


@pytest.mark.parametrize("reported", [None, {}, {"tokens": 3}, "12", 12], ids=str)
def test_unreadable_usage_is_unknown_and_not_zero(reported: Any) -> None:
    assert token_usage(chat_result(AIMessage(""), llm_output={"token_usage": reported})) is None
