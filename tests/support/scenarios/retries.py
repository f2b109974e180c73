"""Several attempts at one thing: each is a span, and they are one operation."""

from __future__ import annotations

import asyncio
from typing import Any

from langchain.agents.middleware import ModelFallbackMiddleware, ModelRetryMiddleware, ToolRetryMiddleware
from langchain.agents.structured_output import ToolStrategy
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import RetryPolicy
from pydantic import BaseModel

from scenarios.models import SECRET, Unavailable, calls, says
from scenarios.scenario import CALLS, STREAMED, Scenarios
from scenarios.stage import QUESTION, Stage

__all__ = ["RETRIES"]

RETRIES = Scenarios("retries")

_AT_ONCE: dict[str, Any] = {"initial_delay": 0.0, "jitter": False}
_QUICK = RetryPolicy(initial_interval=0.001, jitter=False, retry_on=Unavailable)


@RETRIES(
    "a model with retries is tried three times",
    """
    invoke_workflow
      chat toy !Unavailable [superseded]
      chat toy !Unavailable [attempt 2 with_retry] [superseded]
      chat toy [attempt 3 with_retry]
    """,
    modes=CALLS,
    has_agent_or_graph=False,
)
def bare_with_retry(stage: Stage) -> Any:
    return stage.run(stage.model(says(fails=2)).with_retry(wait_exponential_jitter=False), SECRET)


@RETRIES(
    "a model with retries inside a chain is tried three times, and its tokens count once",
    """
    invoke_workflow
      chat toy !Unavailable [superseded]
      chat toy !Unavailable [attempt 2 with_retry] [superseded]
      chat toy [attempt 3 with_retry] [in 20 out 5]
    """,
    modes=CALLS,
    has_agent_or_graph=False,
    shows={"usage"},
)
def with_retry(stage: Stage) -> Any:
    model = stage.model(says(fails=2)).with_retry(wait_exponential_jitter=False, stop_after_attempt=3)
    return stage.run(RunnableLambda(lambda text: text) | model, SECRET)


@RETRIES(
    "a chain with retries is tried as a whole",
    """
    invoke_workflow answering
      chat toy !Unavailable [superseded]
      chat toy !Unavailable [attempt 2 with_retry] [superseded]
      chat toy [attempt 3 with_retry]
    """,
    modes=CALLS,
    has_agent_or_graph=False,
)
def chain_with_retry(stage: Stage) -> Any:
    prompt = ChatPromptTemplate.from_messages([("user", "{question}")])
    chain = prompt | stage.model(says(fails=2)) | StrOutputParser()
    retried = chain.with_retry(wait_exponential_jitter=False, stop_after_attempt=3).with_config(run_name="answering")
    return stage.run(retried, {"question": SECRET})


@RETRIES(
    "retries that are used up leave the last error",
    """
    invoke_workflow answering !Unavailable
      chat toy !Unavailable [superseded]
      chat toy !Unavailable [attempt 2 with_retry]
    """,
    modes=CALLS,
    has_agent_or_graph=False,
    raises=Unavailable,
)
def with_retry_used_up(stage: Stage) -> Any:
    model = stage.model(says(fails=2)).with_retry(wait_exponential_jitter=False, stop_after_attempt=2)
    return stage.run((model | StrOutputParser()).with_config(run_name="answering"), SECRET)


@RETRIES(
    "a stream is not retried",
    """
    chat toy !Unavailable
    """,
    modes=STREAMED,
    has_agent_or_graph=False,
    raises=Unavailable,
)
def stream_with_retry(stage: Stage) -> Any:
    return stage.run(stage.model(says(fails=1), streams=True).with_retry(stop_after_attempt=2), SECRET)


@RETRIES(
    "a fallback replaces the model that failed",
    """
    invoke_workflow
      chat toy !Unavailable [superseded]
      chat small [attempt 2 fallback] [in 20 out 5]
    """,
    has_agent_or_graph=False,
    shows={"usage"},
)
def with_fallbacks(stage: Stage) -> Any:
    model = stage.model(says(fails=1)).with_fallbacks([stage.model(says(), model="small")])
    return stage.run(model, SECRET)


@RETRIES(
    "a fallback inside a chain nests in it",
    """
    invoke_workflow answering
      chat toy !Unavailable [superseded]
      chat small !Unavailable [attempt 2 fallback] [superseded]
      chat tiny [attempt 3 fallback]
    """,
    has_agent_or_graph=False,
)
def chain_with_fallbacks(stage: Stage) -> Any:
    fallbacks = [stage.model(says(fails=1), model="small"), stage.model(says(), model="tiny")]
    model = stage.model(says(fails=1)).with_fallbacks(fallbacks)
    return stage.run((model | StrOutputParser()).with_config(run_name="answering"), SECRET)


@RETRIES(
    "a model that has retries and then a fallback is one operation",
    """
    invoke_workflow answering
      chat toy !Unavailable [superseded]
      chat toy !Unavailable [attempt 2 with_retry] [superseded]
      chat small [attempt 3 fallback]
    """,
    modes=CALLS,
    has_agent_or_graph=False,
)
def retries_then_fallback(stage: Stage) -> Any:
    retried = stage.model(says(fails=2)).with_retry(wait_exponential_jitter=False, stop_after_attempt=2)
    model = retried.with_fallbacks([stage.model(says(), model="small")])
    return stage.run((model | StrOutputParser()).with_config(run_name="answering"), SECRET)


@RETRIES(
    "an item of a batch is retried alone",
    """
    invoke_workflow answering
      chat toy !Unavailable [superseded]
      chat toy [attempt 2 with_retry]
    invoke_workflow answering
      chat toy
    """,
    modes=CALLS,
    in_any_order=("invoke_workflow",),
    has_agent_or_graph=False,
)
def batch_with_retry(stage: Stage) -> Any:
    chain = stage.model(says(fails=1)) | StrOutputParser()
    retried = chain.with_retry(wait_exponential_jitter=False).with_config(run_name="answering")
    return _batch(stage, retried)


@RETRIES(
    "an item of a batch falls back alone",
    """
    invoke_workflow answering
      chat toy !Unavailable [superseded]
      chat small [attempt 2 fallback]
    invoke_workflow answering
      chat toy
    """,
    modes=CALLS,
    in_any_order=("invoke_workflow",),
    has_agent_or_graph=False,
)
def batch_with_fallbacks(stage: Stage) -> Any:
    model = stage.model(says(fails=1)).with_fallbacks([stage.model(says(), model="small")])
    return _batch(stage, model.with_config(run_name="answering"))


def _batch(stage: Stage, runnable: Any) -> Any:
    questions, config = [SECRET, f"{SECRET} too"], stage.config()
    return asyncio.run(runnable.abatch(questions, config)) if stage.mode.is_async else runnable.batch(questions, config)


@RETRIES(
    "an agent's model is retried by a middleware",
    """
    invoke_agent clerk
      chat toy !Unavailable [superseded]
      chat toy !Unavailable [attempt 2 model_retry] [superseded]
      chat toy [attempt 3 model_retry]
      execute_tool look_up
      chat toy
    """,
)
def model_retry(stage: Stage) -> Any:
    def look_up(topic: str) -> str:
        """Look something up."""
        return topic

    retry = ModelRetryMiddleware(max_retries=2, **_AT_ONCE)
    model = stage.model(calls("look_up", fails=2), says())
    return stage.run(stage.agent(model, [stage.tool(look_up)], middleware=[retry]), QUESTION)


@RETRIES(
    "an agent whose model keeps failing ends with a message, and says how many calls it knows nothing of",
    """
    invoke_agent clerk [2 of unknown usage]
      chat toy !Unavailable [superseded]
      chat toy !Unavailable [attempt 2 model_retry]
    """,
    shows={"usage"},
)
def model_retry_used_up(stage: Stage) -> Any:
    retry = ModelRetryMiddleware(max_retries=1, on_failure=lambda _: SECRET, **_AT_ONCE)
    return stage.run(stage.agent(stage.model(says(fails=2)), middleware=[retry]), QUESTION)


@RETRIES(
    "an agent's tool is retried by a middleware",
    """
    invoke_agent clerk
      chat toy
      execute_tool look_up !Unavailable [superseded]
        query the database
      execute_tool look_up !Unavailable [attempt 2 tool_retry] [superseded]
        query the database
      execute_tool look_up [attempt 3 tool_retry]
        query the database
      chat toy
    """,
)
def tool_retry(stage: Stage) -> Any:
    retry = ToolRetryMiddleware(max_retries=2, **_AT_ONCE)
    model = stage.model(calls("look_up"), says())
    return stage.run(stage.agent(model, [_flaky_tool(stage, fails=2)], middleware=[retry]), QUESTION)


def _flaky_tool(stage: Stage, *, fails: int) -> Any:
    failures = iter(range(fails))

    def look_up(topic: str) -> str:
        """Look something up."""
        with stage.span("query the database"):
            if next(failures, None) is not None:
                raise Unavailable
            return topic

    return stage.tool(look_up)


@RETRIES(
    "a tool that keeps failing leaves its last error, and the agent goes on",
    """
    invoke_agent clerk
      chat toy
      execute_tool look_up !Unavailable [superseded]
        query the database
      execute_tool look_up !Unavailable [attempt 2 tool_retry]
        query the database
      chat toy
    """,
)
def tool_retry_used_up(stage: Stage) -> Any:
    retry = ToolRetryMiddleware(max_retries=1, on_failure=lambda _: f"no {SECRET}", **_AT_ONCE)
    model = stage.model(calls("look_up"), says())
    return stage.run(stage.agent(model, [_flaky_tool(stage, fails=2)], middleware=[retry]), QUESTION)


@RETRIES(
    "two calls of one tool in a turn are no attempts of each other",
    """
    invoke_agent clerk
      chat toy
      execute_tool look_up
      execute_tool look_up
      chat toy
    """,
    in_any_order=("execute_tool",),
)
def two_calls_of_one_tool(stage: Stage) -> Any:
    def look_up(topic: str) -> str:
        """Look something up."""
        return topic

    both = calls(("look_up", {"topic": SECRET}), ("look_up", {"topic": f"{SECRET} too"}))
    return stage.run(stage.agent(stage.model(both, says()), [stage.tool(look_up)]), QUESTION)


@RETRIES(
    "another model takes over the call of an agent's model that failed",
    """
    invoke_agent clerk
      chat toy !Unavailable [superseded]
      chat small [attempt 2 fallback]
    """,
)
def model_fallback(stage: Stage) -> Any:
    fallback = ModelFallbackMiddleware(stage.model(says(), model="small"))
    return stage.run(stage.agent(stage.model(says(fails=1)), middleware=[fallback]), QUESTION)


@RETRIES(
    "retries and fallbacks of an agent's model are one operation",
    """
    invoke_agent clerk
      chat toy !Unavailable [superseded]
      chat toy !Unavailable [attempt 2 model_retry] [superseded]
      chat small [attempt 3 fallback]
    """,
)
def model_retry_then_fallback(stage: Stage) -> Any:
    fallback = ModelFallbackMiddleware(stage.model(says(), model="small"))
    retry = ModelRetryMiddleware(max_retries=1, on_failure="error", **_AT_ONCE)
    return stage.run(stage.agent(stage.model(says(fails=2)), middleware=[fallback, retry]), QUESTION)


@RETRIES(
    "a node with a retry policy runs again, and so does what is in it",
    """
    invoke_workflow office
      run_node work !Unavailable [superseded]
        chat toy !Unavailable
      run_node work [attempt 2 node_retry]
        chat toy
    """,
)
def node_retry(stage: Stage) -> Any:
    return stage.run(_retrying(stage, stage.asking(stage.model(says(fails=1))), _QUICK), QUESTION)


def _retrying(stage: Stage, work: Any, policy: RetryPolicy) -> Any:
    builder: Any = StateGraph(MessagesState)
    builder.add_node("work", work, retry_policy=policy)
    builder.add_edge(START, "work")
    return stage.compile(builder, name="office")


@RETRIES(
    "a node that keeps failing leaves its last error, and the graph fails",
    """
    invoke_workflow office !Unavailable
      run_node work !Unavailable [superseded]
      run_node work !Unavailable [attempt 2 node_retry]
    """,
    raises=Unavailable,
)
def node_retry_used_up(stage: Stage) -> Any:
    def work(_: MessagesState) -> Any:
        raise Unavailable

    return stage.run(_retrying(stage, stage.function(work), _QUICK._replace(max_attempts=2)), QUESTION)


@RETRIES(
    "a retried node runs its agent again",
    """
    invoke_workflow office
      run_node work !Unavailable [superseded]
        invoke_agent clerk !Unavailable
          chat toy !Unavailable
      run_node work [attempt 2 node_retry]
        invoke_agent clerk
          chat toy
    """,
)
def agent_in_retried_node(stage: Stage) -> Any:
    return stage.run(_retrying(stage, stage.agent(stage.model(says(fails=1))), _QUICK), QUESTION)


class Verdict(BaseModel):
    """What the agent answers with."""

    score: int


@RETRIES(
    "an answer that does not fit its schema is repaired by the next call",
    """
    invoke_agent clerk
      chat toy [superseded]
      chat toy [attempt 2 structured_output_repair]
    """,
)
def structured_output(stage: Stage) -> Any:
    model = stage.model(calls(("Verdict", {"score": SECRET})), calls(("Verdict", {"score": 3})))
    return stage.run(stage.agent(model, response_format=ToolStrategy(Verdict)), QUESTION)
