"""The conventions as tables: attributes and their types, operations, events and metrics.

Requirement levels are those of the conventions. "Conditionally required" needs no table where the condition can be
seen on the span: those rules are code. Recommended attributes are listed where a tracer of LangChain can know them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = [
    "AGENT_USAGE",
    "ATTRIBUTES",
    "CONTENT",
    "DEFAULT_NAMES",
    "EVENTS",
    "INFERENCE",
    "METRICS",
    "OPERATIONS",
    "OWN_ATTRIBUTES",
    "OWN_SPAN_EVENTS",
    "OWN_VALUES",
    "PREVIOUS_METRICS",
    "RESTRICTED",
    "SCHEMA_URL",
    "EventRule",
    "MetricRule",
    "Operation",
]

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/gen-ai-dev/1.42.0-dev"
"""Of the conventions' own manifest."""

STRING, INT, DOUBLE, BOOLEAN, STRINGS = "string", "int", "double", "boolean", "string[]"
INPUT, OUTPUT, PARTS, TOOLS, DOCUMENTS, ANY = "input messages", "output messages", "parts", "tools", "documents", "any"


def _typed(kind: str, prefix: str, names: str) -> dict[str, str]:
    return {prefix + name: kind for name in names.split()}


_USAGE = "gen_ai.usage."
ATTRIBUTES: Final[dict[str, str]] = {
    **_typed(STRING, "gen_ai.", "operation.name provider.name conversation.id data_source.id output.type"),
    **_typed(STRING, "gen_ai.agent.", "name description id version"),
    **_typed(STRING, "gen_ai.", "workflow.name prompt.name prompt.version main_agent.id"),
    **_typed(STRING, "gen_ai.request.", "model reasoning.level previous_response.id stream_cursor"),
    **_typed(INT, "gen_ai.request.", "choice.count seed top_k max_tokens"),
    **_typed(DOUBLE, "gen_ai.request.", "temperature top_p frequency_penalty presence_penalty"),
    **_typed(STRINGS, "gen_ai.request.", "stop_sequences encoding_formats"),
    **_typed(BOOLEAN, "gen_ai.", "request.stream conversation.compacted"),
    **_typed(STRING, "gen_ai.response.", "id model status"),
    "gen_ai.response.finish_reasons": STRINGS,
    "gen_ai.response.time_to_first_chunk": DOUBLE,
    **_typed(INT, _USAGE, "input_tokens output_tokens"),
    **_typed(INT, _USAGE, "cache_read.input_tokens cache_write.input_tokens reasoning.output_tokens"),
    **{
        f"{_USAGE}{modality}.{tokens}": INT
        for modality in ("text", "image", "audio")
        for tokens in ("input_tokens", "output_tokens", "cache_read.input_tokens")
    },
    **_typed(STRING, "gen_ai.tool.", "name type description call.id"),
    **_typed(ANY, "gen_ai.tool.", "call.arguments call.result"),
    "gen_ai.tool.definitions": TOOLS,
    "gen_ai.system_instructions": PARTS,
    "gen_ai.input.messages": INPUT,
    "gen_ai.output.messages": OUTPUT,
    "gen_ai.retrieval.top_k": INT,
    "gen_ai.retrieval.query.text": STRING,
    "gen_ai.retrieval.documents": DOCUMENTS,
    "gen_ai.embeddings.dimension.count": INT,
    **_typed(STRING, "gen_ai.memory.", "store.id record.id query.text"),
    "gen_ai.memory.record.count": INT,
    "gen_ai.memory.records": ANY,
    **_typed(STRING, "gen_ai.evaluation.", "name score.label explanation"),
    "gen_ai.evaluation.score.value": DOUBLE,
    **_typed(STRING, "", "error.type server.address exception.type exception.message exception.stacktrace"),
    "server.port": INT,
}
"""Attributes of the conventions, with the core ones that they refer to."""

_OWN = "tokenomics."
OWN_ATTRIBUTES: Final[dict[str, str]] = {
    **_typed(STRING, _OWN, "task.id task.group"),
    **_typed(STRING, _OWN, "kv_cache.kind"),
    **_typed(DOUBLE, _OWN, "kv_cache.bits_per_element"),
    **_typed(INT, _OWN, "kv_cache.bytes"),
    **_typed(STRING, _OWN + "outcome.", "status value harm currency evaluator evidence"),
    **_typed(INT, _OWN + "outcome.", "observed_time_unix_nano version"),
    **_typed(STRING, _OWN, "usage.inconsistent answered_by node.name branch.name step.kind step.kind.source"),
    **_typed(STRING, _OWN, "usage.cost run.cost"),
    **_typed(BOOLEAN, _OWN, "usage.estimated cache.hit replay policy.refused policy.answered time.synthesized"),
    **_typed(INT, _OWN, "usage.unknown_calls node.step interrupt.count"),
    **_typed(STRING, _OWN + "policy.", "mode action reason decision.kind"),
    **_typed(DOUBLE, _OWN + "policy.", "estimate propensity"),
    **_typed(STRING, _OWN, "policy.rule run.state checkpoint.id hand_off.to link.kind"),
    **_typed(STRING, _OWN, "operation.id attempt.kind attempt.superseded_by"),
    "tokenomics.attempt.number": INT,
    **_typed(STRING, _OWN + "plan.", "id step.id"),
    **_typed(STRINGS, _OWN + "plan.", "steps step.statuses"),
    **_typed(INT, _OWN + "plan.", "revision steps.added steps.removed steps.completed"),
    "tokenomics.loop.kind": STRING,
    **_typed(INT, _OWN + "loop.", "repeats period"),
    **_typed(STRING, _OWN, "arguments.fingerprint result.fingerprint context.previous context.blocks"),
    "tokenomics.context.kept": INT,
}
"""Ours; a test compares them with the page of documentation."""
OWN_SPAN_EVENTS: Final = frozenset(
    _OWN + name for name in ("interrupt", "resume", "hand_off", "drain", "policy.decision")
)
OWN_VALUES: Final[dict[str, frozenset[str]]] = {
    _OWN + name: frozenset(values.split())
    for name, values in {
        "run.state": "interrupted handed_off drained abandoned cancelled",
        "link.kind": "resumes replays takes_over retries repeats carried_out_by",
        "attempt.kind": "with_retry model_retry tool_retry node_retry fallback structured_output_repair",
        "answered_by": "middleware policy memory",
        "policy.mode": "shadow enforce",
        "policy.action": "stop block answer warn go_on",
        "step.kind": "plan act observe reflect verify answer",
        "step.kind.source": "declared structure name",
        "loop.kind": "revisit alternation",
        "outcome.status": "succeeded failed harmful pending",
    }.items()
}
"""What the words in our attributes may be."""


@dataclass(frozen=True, kw_only=True)
class Operation:
    """What the conventions say of the spans of one operation."""

    kinds: frozenset[str] = frozenset({"INTERNAL"})
    """Span kinds."""
    subject: str | None = None
    """The attribute whose value the span's name ends with."""
    required: frozenset[str] = frozenset()
    """Required, besides the operation's name."""
    recommended: frozenset[str] = frozenset()
    """Recommended, or required under a condition that a span does not show."""
    answered: frozenset[str] = frozenset()
    """Recommended once there is an answer."""


def _names(prefix: str, names: str) -> frozenset[str]:
    return frozenset(prefix + name for name in names.split())


INFERENCE: Final = frozenset({"chat", "generate_content", "text_completion"})
"""Operations that call a model to answer."""
AGENT_USAGE: Final = _names(_USAGE, "input_tokens output_tokens")
"""The only usage that an agent's span may carry: the sums of its calls."""

_CLIENT_OR_NOT: Final = frozenset({"CLIENT", "INTERNAL"})
_INFERENCE: Final = Operation(
    kinds=_CLIENT_OR_NOT,
    subject="gen_ai.request.model",
    required=frozenset({"gen_ai.provider.name"}),
    recommended=frozenset({"gen_ai.request.model"}),
    answered=_names("gen_ai.response.", "id model finish_reasons") | AGENT_USAGE,
)
_MEMORY: Final = Operation(kinds=_CLIENT_OR_NOT)
OPERATIONS: Final[dict[str, Operation]] = {
    "chat": _INFERENCE,
    "generate_content": _INFERENCE,
    "text_completion": _INFERENCE,
    "embeddings": Operation(
        kinds=frozenset({"CLIENT"}),
        subject="gen_ai.request.model",
        required=frozenset({"gen_ai.provider.name"}),
        recommended=frozenset({"gen_ai.request.model"}),
        answered=frozenset({"gen_ai.usage.input_tokens"}),
    ),
    "retrieval": Operation(kinds=frozenset({"CLIENT"}), subject="gen_ai.data_source.id"),
    "execute_tool": Operation(
        subject="gen_ai.tool.name",
        required=frozenset({"gen_ai.tool.name"}),
        recommended=_names("gen_ai.tool.", "call.id description type"),
    ),
    "invoke_agent": Operation(
        subject="gen_ai.agent.name",
        recommended=frozenset({"gen_ai.agent.name"}),
        answered=_names("gen_ai.usage.", "input_tokens output_tokens"),
    ),
    "invoke_workflow": Operation(subject="gen_ai.workflow.name", recommended=frozenset({"gen_ai.workflow.name"})),
    "plan": Operation(subject="gen_ai.agent.name", recommended=frozenset({"gen_ai.agent.name"})),
    **dict.fromkeys(
        (
            "create_memory_store",
            "delete_memory_store",
            "search_memory",
            "create_memory",
            "update_memory",
            "upsert_memory",
            "delete_memory",
        ),
        _MEMORY,
    ),
    "run_node": Operation(subject="tokenomics.node.name", required=frozenset({"tokenomics.node.name"})),
    "run_branch": Operation(subject="tokenomics.branch.name", required=frozenset({"tokenomics.branch.name"})),
    "skip_model_call": Operation(required=frozenset({"tokenomics.answered_by"})),
    "record_outcome": Operation(
        subject="gen_ai.evaluation.name",
        required=frozenset(
            {"gen_ai.evaluation.name", "tokenomics.task.id", "tokenomics.outcome.status", "openinference.span.kind"}
        ),
    ),
}
"""By `gen_ai.operation.name`; the last four are ours. `create_agent` and remote agents are not for a library."""

RESTRICTED: Final[dict[str, frozenset[str]]] = {
    "gen_ai.provider.name": INFERENCE | {"embeddings", "retrieval"},
    "gen_ai.agent.id": frozenset(),
    "gen_ai.agent.version": frozenset(),
    "gen_ai.agent.description": frozenset({"invoke_agent"}),
    "gen_ai.workflow.name": frozenset({"invoke_workflow"}),
    "gen_ai.request.": INFERENCE | {"invoke_agent", "embeddings", "retrieval"},
    "gen_ai.response.": INFERENCE | {"invoke_agent", "embeddings"},
    "gen_ai.usage.": INFERENCE | {"invoke_agent", "embeddings"},
    "gen_ai.tool.definitions": INFERENCE | {"invoke_agent"},
    "gen_ai.tool.call.": frozenset({"execute_tool"}),
    "gen_ai.tool.name": frozenset({"execute_tool"}),
    "gen_ai.tool.type": frozenset({"execute_tool"}),
    "gen_ai.tool.description": frozenset({"execute_tool"}),
    "gen_ai.system_instructions": INFERENCE | {"invoke_agent"},
    "gen_ai.input.messages": INFERENCE | {"invoke_agent", "invoke_workflow"},
    "gen_ai.output.messages": INFERENCE | {"invoke_agent", "invoke_workflow"},
    "gen_ai.retrieval.": frozenset({"retrieval"}),
    "gen_ai.evaluation.": frozenset({"record_outcome"}),
    "server.": INFERENCE | {"embeddings"},
}
"""Attributes, or beginnings of names, and the only operations on which they belong."""

CONTENT: Final = frozenset(
    {
        "gen_ai.system_instructions",
        "gen_ai.input.messages",
        "gen_ai.output.messages",
        "gen_ai.tool.definitions",
        "gen_ai.tool.call.arguments",
        "gen_ai.tool.call.result",
        "gen_ai.retrieval.query.text",
        "gen_ai.retrieval.documents",
        "gen_ai.memory.query.text",
        "gen_ai.memory.records",
        "exception.message",
        "exception.stacktrace",
    }
)
"""What users, models and tools wrote: only where it was asked for. Messages of exceptions quote it."""

DEFAULT_NAMES: Final = frozenset({"LangGraph", "StateGraph", "CompiledStateGraph", "Pregel", "chain", "workflow"})
"""Names that nobody chose; those of LangChain's classes, `Runnable...`, are too many to list."""


@dataclass(frozen=True, kw_only=True)
class EventRule:
    """What the conventions say of one log event."""

    severity: int | None
    """Severity number, if they name one."""
    required: frozenset[str]
    """Required attributes."""
    allowed: frozenset[str] | None
    """All attributes that it may have; `None` for those of an inference span."""
    parents: frozenset[str]
    """Operations of the span that it belongs to."""


EVENTS: Final[dict[str, EventRule]] = {
    "gen_ai.client.inference.operation.details": EventRule(
        severity=5, required=frozenset({"gen_ai.operation.name"}), allowed=None, parents=INFERENCE
    ),
    "gen_ai.client.operation.exception": EventRule(
        severity=13,
        required=frozenset({"exception.type"}),
        allowed=_names("exception.", "type message stacktrace"),
        parents=INFERENCE | {"embeddings"},
    ),
    "gen_ai.evaluation.result": EventRule(
        severity=None,
        required=frozenset({"gen_ai.evaluation.name"}),
        allowed=frozenset({"error.type", "gen_ai.response.id"})
        | _names("gen_ai.evaluation.", "name score.value score.label explanation"),
        parents=frozenset(OPERATIONS),
    ),
}


@dataclass(frozen=True, kw_only=True)
class MetricRule:
    """What the conventions say of one metric."""

    instrument: str
    """`histogram` or `counter`."""
    unit: str
    """UCUM unit."""
    required: frozenset[str] = frozenset()
    """Required attributes."""
    allowed: frozenset[str] = frozenset()
    """Further ones."""
    buckets: tuple[float, ...] | None = None
    """Advised boundaries."""
    is_count: bool = False
    """Whether its values are whole numbers."""


_CALL: Final = frozenset({"gen_ai.operation.name", "gen_ai.provider.name"})
_CALL_MORE: Final = frozenset({"gen_ai.request.model", "gen_ai.response.model", "server.address", "server.port"})
_ERROR: Final = frozenset({"error.type"})
_SECONDS: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_AGENT_SECONDS: Final = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 102.4, 204.8, 409.6)
_TOKENS: Final = tuple(float(4**power) for power in range(14))
_CALLS: Final = tuple(float(2**power) for power in range(8))
_WORKFLOW_SECONDS: Final = (1.0, 7200.0)

_DURATION: Final = MetricRule(
    instrument="histogram", unit="s", required=_CALL, allowed=_CALL_MORE | _ERROR, buckets=_SECONDS
)
_CHUNKS: Final = MetricRule(instrument="histogram", unit="s", required=_CALL, allowed=_CALL_MORE, buckets=_SECONDS)
_TOTAL: Final = MetricRule(
    instrument="counter",
    unit="{token}",
    required=_CALL | {"gen_ai.token.modality"},
    allowed=_CALL_MORE,
    is_count=True,
)
_PER_CALL: Final = MetricRule(
    instrument="histogram", unit="{token}", required=_CALL, allowed=_CALL_MORE, buckets=_TOKENS, is_count=True
)
_AGENT_CALLS: Final = MetricRule(
    instrument="histogram", unit="", allowed=frozenset({"gen_ai.agent.name"}), buckets=_CALLS, is_count=True
)
_CLIENT: Final = "gen_ai.client."
METRICS: Final[dict[str, MetricRule]] = {
    _CLIENT + "inference.duration": _DURATION,
    _CLIENT + "inference.time_to_first_chunk": _CHUNKS,
    _CLIENT + "inference.time_per_output_chunk": _CHUNKS,
    _CLIENT + "operation.duration": _DURATION,
    **{
        f"{_CLIENT}inference.usage.{tokens}": _TOTAL
        for tokens in (
            "input_tokens",
            "output_tokens",
            "cache_read.input_tokens",
            "cache_write.input_tokens",
            "reasoning.output_tokens",
        )
    },
    _CLIENT + "inference.operation.input_tokens": _PER_CALL,
    _CLIENT + "inference.operation.output_tokens": _PER_CALL,
    "gen_ai.invoke_agent.duration": MetricRule(
        instrument="histogram",
        unit="s",
        allowed=frozenset({"gen_ai.agent.name", "gen_ai.request.model"}) | _ERROR,
        buckets=_AGENT_SECONDS,
    ),
    "gen_ai.invoke_agent.inference_calls": _AGENT_CALLS,
    "gen_ai.invoke_agent.tool_calls": _AGENT_CALLS,
    "gen_ai.execute_tool.duration": MetricRule(
        instrument="histogram",
        unit="s",
        required=frozenset({"gen_ai.tool.name"}),
        allowed=frozenset({"gen_ai.tool.type", "gen_ai.agent.name"}) | _ERROR,
        buckets=_SECONDS,
    ),
    "gen_ai.invoke_workflow.duration": MetricRule(
        instrument="histogram",
        unit="s",
        allowed=frozenset({"gen_ai.workflow.name"}) | _ERROR,
        buckets=_WORKFLOW_SECONDS,
    ),
}
"""Of the pinned commit."""

PREVIOUS_METRICS: Final[dict[str, MetricRule]] = {
    **{name: rule for name, rule in METRICS.items() if not name.startswith(_CLIENT)},
    _CLIENT + "operation.duration": _DURATION,
    _CLIENT + "operation.time_to_first_chunk": _CHUNKS,
    _CLIENT + "operation.time_per_output_chunk": _CHUNKS,
    _CLIENT + "token.usage": MetricRule(
        instrument="histogram",
        unit="{token}",
        required=_CALL | {"gen_ai.token.type"},
        allowed=_CALL_MORE,
        buckets=_TOKENS,
        is_count=True,
    ),
}
"""Of version 1.41, the last one before they were renamed."""
