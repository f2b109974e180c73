"""Tracing as a middleware of `create_agent`, and the place where policies stop calls.

What the agent does is recorded by the callback handler, which listens to the whole process for as long as the
middleware lives, and records the runs of agents that carry it. So it implements as little as it can: what
LangChain finds overridden, it builds into the agent. Hooks before and after the model would become nodes of the graph.
A hook around tool calls gives even an agent without tools a tools node, and lets unknown tools pass; so only a
middleware with a policy has that one, because it has to ask.
"""

from __future__ import annotations

import inspect
import itertools
import logging
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial, update_wrapper
from typing import Any, Self, TypeVar, cast
from uuid import UUID

from langchain.agents.middleware import AgentMiddleware, ModelRequest, ModelResponse
from langchain.agents.middleware.types import ToolCallRequest
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.runnables.config import var_child_runnable_config
from langgraph.types import Command
from opentelemetry import trace
from opentelemetry.trace import TracerProvider

from tokenomics_langchain.callbacks import TokenomicsCallbackHandler
from tokenomics_langchain.listening import listen
from tokenomics_langchain.proposed_calls import (
    Attempts,
    Surroundings,
    failed_call,
    model_call,
    model_result,
    tool_call,
    tool_result,
)
from tokenomics_plugin.policy import Answered, CallPolicy, CallResult, ProposedCall, Refused

__all__ = ["TokenomicsMiddleware"]

_LOGGER = logging.getLogger(__name__)
_numbers = itertools.count(1)

_Request = TypeVar("_Request", ModelRequest[Any], ToolCallRequest)
_Response = TypeVar("_Response")
_Method = TypeVar("_Method", bound=Callable[..., Any])
_ToolResponse = ToolMessage | Command[Any]
_ModelHandler = Callable[[ModelRequest[Any]], ModelResponse[Any]]
_AsyncModelHandler = Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
_ToolHandler = Callable[[ToolCallRequest], _ToolResponse]
_AsyncToolHandler = Callable[[ToolCallRequest], Awaitable[_ToolResponse]]


class _Hook:
    """A method whose bound form has its signature at hand.

    LangChain has LangSmith wrap each hook around calls, which asks for the hook's signature in every call, traced or
    not. To find that of a bound method takes as long as all else that the two do.
    """

    def __init__(self, method: Callable[..., Any]) -> None:
        self._method = method
        self._signature = inspect.signature(partial(method, None))

    def __get__(self, instance: object, owner: type) -> Callable[..., Any]:
        if instance is None:
            return self._method
        bound = update_wrapper(partial(self._method, instance), self._method)
        setattr(bound, "__signature__", self._signature)  # noqa: B010 - mypy knows no such attribute
        return bound


def _hook(method: _Method) -> _Method:
    return cast(_Method, _Hook(method))


class TokenomicsMiddleware(AgentMiddleware[Any, Any, Any]):
    """Traces the agents that carry it, as `create_agent(model, tools, middleware=[TokenomicsMiddleware()])`.

    The whole run is traced from its start, whatever the agent is part of; one that stops before its first model call
    is not noticed. Any other way to trace may be used beside
    it: a run is recorded once. An agent that another process resumes amid its tools is noticed when it next calls its
    model; what its tools open spans for before that does not nest under them.

    With a policy, each model and tool call is proposed to it first. First in the list, the middleware proposes a call
    once, however often a retrying middleware after it makes it; last in the list, it proposes each attempt. An agent
    may carry several. Calls that tools and other middleware make by themselves are not proposed.

    Args:
        tracer_provider: Where spans go; the global provider by default.
        handler: The handler to trace with, in place of one of `tracer_provider` that the middlewares share.
        policy: Is asked before each model and tool call of the agent, and told after it. LangChain gives an agent
            whose tool calls are wrapped a tools node, even if it has no tools.
        capture_content: As for the handler.

    Raises:
        ValueError: If `handler` is given together with what a new handler would be made of.
    """

    def __new__(cls, *_: Any, policy: CallPolicy | None = None, **__: Any) -> Self:
        """Make a middleware with no more hooks than it needs: LangChain looks for them in its class."""
        if policy is None or issubclass(cls, _Governing):
            return super().__new__(cls)
        if cls is not TokenomicsMiddleware:
            raise TypeError(f"{cls.__name__} takes no policy: give it to TokenomicsMiddleware itself")
        return cast(Self, super().__new__(_Governing))

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        *,
        handler: TokenomicsCallbackHandler | None = None,
        policy: CallPolicy | None = None,
        capture_content: bool | None = None,
    ) -> None:
        super().__init__()
        if handler is not None and (tracer_provider is not None or capture_content is not None):
            raise ValueError(
                "got a handler together with tracer_provider or capture_content, which the handler has settled already:"
                " give them to the handler"
            )
        self._handler = handler or _shared_handler(tracer_provider, capture_content)
        self._number = next(_numbers)
        self._has_failed = False
        weakref.finalize(self, listen(self._handler.on_demand).stop).atexit = False

    @property
    def name(self) -> str:
        """Differs from one instance to the next, because an agent accepts no two of one name."""
        return "TokenomicsMiddleware" if self._number == 1 else f"TokenomicsMiddleware-{self._number}"

    @_hook
    def wrap_model_call(self, request: ModelRequest[Any], handler: _ModelHandler) -> ModelResponse[Any] | AIMessage:
        """Have the run recorded that makes the call."""
        self._follow()
        return handler(request)

    # No coroutine function: LangChain would run one in a task of its own, and send two errands to a thread pool.
    @_hook
    def awrap_model_call(
        self, request: ModelRequest[Any], handler: _AsyncModelHandler
    ) -> Coroutine[Any, Any, ModelResponse[Any] | AIMessage]:
        """Have the run recorded that makes the call."""
        self._follow()
        return cast("Coroutine[Any, Any, ModelResponse[Any]]", handler(request))

    def __copy__(self) -> Self:
        """The same: a copy would stop listening with the original."""
        return self

    def __deepcopy__(self, _: object) -> Self:
        """The same, likewise."""
        return self

    def _follow(self) -> None:
        try:
            self._handler.follow(_enclosing_run_id())
        except Exception as error:
            self._report(error)

    def _report(self, error: Exception) -> None:
        if not self._has_failed:
            self._has_failed = True
            _LOGGER.warning(
                "%s failed with %s; the agent goes on as without it. Logged once.",
                self.name,
                type(error).__qualname__,
            )


class _Governing(TokenomicsMiddleware):
    """The middleware with a policy."""

    def __init__(self, *args: Any, policy: CallPolicy, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._policy = policy
        self._attempts = Attempts()

    @_hook
    def wrap_model_call(self, request: ModelRequest[Any], handler: _ModelHandler) -> ModelResponse[Any] | AIMessage:
        """Make the call if the policy allows it."""
        with self._propose(model_call, request, model_result) as proposal:
            if proposal.refused is not None:
                return _model_refusal(proposal.refused)
            return proposal.made(handler(request))

    @_hook
    def awrap_model_call(
        self, request: ModelRequest[Any], handler: _AsyncModelHandler
    ) -> Coroutine[Any, Any, ModelResponse[Any] | AIMessage]:
        """Make the call if the policy allows it."""
        return self._governed_model_call(request, handler)

    @_hook
    def wrap_tool_call(self, request: ToolCallRequest, handler: _ToolHandler) -> _ToolResponse:
        """Make the call if the policy allows it."""
        with self._propose(tool_call, request, tool_result) as proposal:
            if proposal.refused is not None:
                return _tool_refusal(request, proposal.refused)
            if (answer := proposal.answer_to(request)) is not None:
                return answer
            return proposal.made(handler(request))

    @_hook
    def awrap_tool_call(
        self, request: ToolCallRequest, handler: _AsyncToolHandler
    ) -> Coroutine[Any, Any, _ToolResponse]:
        """Make the call if the policy allows it."""
        return self._governed_tool_call(request, handler)

    async def _governed_model_call(
        self, request: ModelRequest[Any], handler: _AsyncModelHandler
    ) -> ModelResponse[Any] | AIMessage:
        with self._propose(model_call, request, model_result) as proposal:
            if proposal.refused is not None:
                return _model_refusal(proposal.refused)
            return proposal.made(await handler(request))

    async def _governed_tool_call(self, request: ToolCallRequest, handler: _AsyncToolHandler) -> _ToolResponse:
        with self._propose(tool_call, request, tool_result) as proposal:
            if proposal.refused is not None:
                return _tool_refusal(request, proposal.refused)
            if (answer := proposal.answer_to(request)) is not None:
                return answer
            return proposal.made(await handler(request))

    def _propose(
        self,
        describe: Callable[[_Request, Surroundings, Attempts], ProposedCall],
        request: _Request,
        result_of: Callable[[Any, int], CallResult],
    ) -> _Proposal:
        self._follow()
        proposal = _Proposal(self._policy, result_of, self._report)
        try:
            node_run_id = _enclosing_run_id()
            around = Surroundings(node_run_id=node_run_id, run=self._handler.find(node_run_id))
            proposal.ask(describe(request, around, self._attempts), around)
        except Exception as error:
            self._report(error)
        return proposal


class _Proposal:
    """A call from its proposal to its result. A policy that fails allows it."""

    def __init__(
        self,
        policy: CallPolicy,
        result_of: Callable[[Any, int], CallResult],
        report: Callable[[Exception], None],
    ) -> None:
        self.refused: Refused | None = None
        self._answered: Answered | None = None
        self._policy = policy
        self._result_of = result_of
        self._report = report
        self._call: ProposedCall | None = None
        self._response: Any = None
        self._started_ns = 0

    def ask(self, call: ProposedCall, around: Surroundings) -> None:
        """Put the call to the policy, and have what it decides recorded on the call's span."""
        verdict = self._policy.ask(call)
        if isinstance(verdict, Refused):
            self.refused = verdict
        elif isinstance(verdict, Answered):
            self._answered = verdict
        else:
            self._call = call
        if verdict.decisions:
            around.note(call, verdict.decisions)

    def answer_to(self, request: ToolCallRequest) -> ToolMessage | None:
        """The answer that the policy remembers, as one to this call."""
        return None if self._answered is None else _remembered(request, self._answered)

    def made(self, response: _Response) -> _Response:
        """Note what the call returned."""
        self._response = response
        return response

    def __enter__(self) -> Self:
        self._started_ns = time.perf_counter_ns()
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if self._call is None:
            return
        duration_ns = time.perf_counter_ns() - self._started_ns
        try:
            result = self._result_of(self._response, duration_ns) if error is None else failed_call(error, duration_ns)
            self._policy.tell(self._call, result)
        except Exception as failure:
            self._report(failure)


def _model_refusal(refused: Refused) -> AIMessage:
    return AIMessage(refused.reason, response_metadata=refused.to_attributes())


def _tool_refusal(request: ToolCallRequest, refused: Refused) -> ToolMessage:
    return ToolMessage(
        refused.reason,
        name=request.tool_call["name"],
        tool_call_id=request.tool_call["id"],
        status="error",
        response_metadata=refused.to_attributes(),
    )


def _remembered(request: ToolCallRequest, answered: Answered) -> ToolMessage:
    message = cast(ToolMessage, answered.answer)
    metadata = message.response_metadata | answered.to_attributes()
    fresh = {"tool_call_id": request.tool_call["id"], "id": None, "response_metadata": metadata}
    return message.model_copy(update=fresh, deep=True)


def _enclosing_run_id() -> UUID | None:
    """The run of the node that a hook is called in."""
    config = var_child_runnable_config.get()
    return getattr(config.get("callbacks"), "parent_run_id", None) if config else None


# Every handler that listens hears every run of the process, so the middlewares share theirs.
_handlers: weakref.WeakKeyDictionary[Any, weakref.WeakValueDictionary[bool | None, TokenomicsCallbackHandler]]
_handlers = weakref.WeakKeyDictionary()
_handlers_lock = threading.Lock()


def _shared_handler(provider: TracerProvider | None, capture_content: bool | None) -> TokenomicsCallbackHandler:
    key = provider or trace.get_tracer_provider()
    if type(key).__hash__ is None:
        return TokenomicsCallbackHandler(provider, capture_content=capture_content)
    with _handlers_lock:
        by_capture = _handlers.setdefault(key, weakref.WeakValueDictionary())
        if (handler := by_capture.get(capture_content)) is None:
            handler = TokenomicsCallbackHandler(provider, capture_content=capture_content)
            by_capture[capture_content] = handler
    return handler
