"""The attribute, event and metric names that this project reads and writes.

The GenAI conventions live in `open-telemetry/semantic-conventions-genai`, have no release yet, and the
published Python package still carries the previous generation (and marks it deprecated). So the names
are pinned here to one commit of the conventions, with the older spellings beside them: what we write is
`GEN_AI_*`, what we also accept on reading is in `OLD_NAMES`.

`tokenomics.*` is ours: the conventions have no place for a business task, its value or an outcome that
arrives weeks later. `docs/semconv.md` is the table of these names and what they mean.
"""

from typing import Final

CONVENTIONS_COMMIT: Final = "e07f4eb"
"""Commit of open-telemetry/semantic-conventions-genai that the names below follow (2026-10-02)."""
SCHEMA_URL: Final = "https://opentelemetry.io/schemas/gen-ai-dev/1.42.0-dev"
"""The conventions' own schema URL (their `model/manifest.yaml`), put on our instrumentation scopes."""

# Operation and its parties
GEN_AI_OPERATION_NAME: Final = "gen_ai.operation.name"
GEN_AI_PROVIDER_NAME: Final = "gen_ai.provider.name"
GEN_AI_CONVERSATION_ID: Final = "gen_ai.conversation.id"
GEN_AI_AGENT_NAME: Final = "gen_ai.agent.name"
GEN_AI_AGENT_DESCRIPTION: Final = "gen_ai.agent.description"
GEN_AI_WORKFLOW_NAME: Final = "gen_ai.workflow.name"
GEN_AI_DATA_SOURCE_ID: Final = "gen_ai.data_source.id"
GEN_AI_OUTPUT_TYPE: Final = "gen_ai.output.type"

# Request
GEN_AI_REQUEST_MODEL: Final = "gen_ai.request.model"
GEN_AI_REQUEST_STREAM: Final = "gen_ai.request.stream"
GEN_AI_REQUEST_CHOICE_COUNT: Final = "gen_ai.request.choice.count"
GEN_AI_REQUEST_SEED: Final = "gen_ai.request.seed"
GEN_AI_REQUEST_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
GEN_AI_REQUEST_TEMPERATURE: Final = "gen_ai.request.temperature"
GEN_AI_REQUEST_TOP_P: Final = "gen_ai.request.top_p"
GEN_AI_REQUEST_TOP_K: Final = "gen_ai.request.top_k"
GEN_AI_REQUEST_FREQUENCY_PENALTY: Final = "gen_ai.request.frequency_penalty"
GEN_AI_REQUEST_PRESENCE_PENALTY: Final = "gen_ai.request.presence_penalty"
GEN_AI_REQUEST_STOP_SEQUENCES: Final = "gen_ai.request.stop_sequences"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"

# Response
GEN_AI_RESPONSE_ID: Final = "gen_ai.response.id"
GEN_AI_RESPONSE_MODEL: Final = "gen_ai.response.model"
GEN_AI_RESPONSE_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
"""Seconds from the request to the first chunk, double."""
ERROR_TYPE: Final = "error.type"

# Usage: `input` includes both cache classes, `output` includes reasoning
GEN_AI_USAGE_INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
GEN_AI_USAGE_OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
GEN_AI_USAGE_CACHE_WRITE_INPUT_TOKENS: Final = "gen_ai.usage.cache_write.input_tokens"
GEN_AI_USAGE_REASONING_OUTPUT_TOKENS: Final = "gen_ai.usage.reasoning.output_tokens"

# Tools and retrieval
GEN_AI_TOOL_NAME: Final = "gen_ai.tool.name"
GEN_AI_TOOL_TYPE: Final = "gen_ai.tool.type"
GEN_AI_TOOL_DESCRIPTION: Final = "gen_ai.tool.description"
GEN_AI_TOOL_CALL_ID: Final = "gen_ai.tool.call.id"
GEN_AI_TOOL_CALL_ARGUMENTS: Final = "gen_ai.tool.call.arguments"
GEN_AI_TOOL_CALL_RESULT: Final = "gen_ai.tool.call.result"
GEN_AI_TOOL_DEFINITIONS: Final = "gen_ai.tool.definitions"
GEN_AI_RETRIEVAL_TOP_K: Final = "gen_ai.retrieval.top_k"
GEN_AI_RETRIEVAL_QUERY_TEXT: Final = "gen_ai.retrieval.query.text"
GEN_AI_RETRIEVAL_DOCUMENTS: Final = "gen_ai.retrieval.documents"

# Content, off by default
GEN_AI_SYSTEM_INSTRUCTIONS: Final = "gen_ai.system_instructions"
GEN_AI_INPUT_MESSAGES: Final = "gen_ai.input.messages"
GEN_AI_OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
CAPTURE_CONTENT_VARIABLE: Final = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"

# Values of gen_ai.operation.name
OPERATION_CHAT: Final = "chat"
OPERATION_GENERATE_CONTENT: Final = "generate_content"
OPERATION_TEXT_COMPLETION: Final = "text_completion"
OPERATION_EMBEDDINGS: Final = "embeddings"
OPERATION_RETRIEVAL: Final = "retrieval"
OPERATION_EXECUTE_TOOL: Final = "execute_tool"
OPERATION_INVOKE_AGENT: Final = "invoke_agent"
OPERATION_INVOKE_WORKFLOW: Final = "invoke_workflow"
OPERATION_CREATE_AGENT: Final = "create_agent"
OPERATION_PLAN: Final = "plan"

BILLED_OPERATIONS: Final = frozenset(
    {OPERATION_CHAT, OPERATION_GENERATE_CONTENT, OPERATION_TEXT_COMPLETION, OPERATION_EMBEDDINGS}
)
"""Operations whose usage is what the provider bills. Agents repeat their calls' sums: never add those."""

# Evaluation event
EVENT_EVALUATION_RESULT: Final = "gen_ai.evaluation.result"
GEN_AI_EVALUATION_NAME: Final = "gen_ai.evaluation.name"
GEN_AI_EVALUATION_SCORE_VALUE: Final = "gen_ai.evaluation.score.value"
GEN_AI_EVALUATION_SCORE_LABEL: Final = "gen_ai.evaluation.score.label"
GEN_AI_EVALUATION_EXPLANATION: Final = "gen_ai.evaluation.explanation"

# Events of one call
EVENT_INFERENCE_DETAILS: Final = "gen_ai.client.inference.operation.details"
EVENT_OPERATION_EXCEPTION: Final = "gen_ai.client.operation.exception"

# Metrics, new generation (conventions' #374 and #521), then the removed ones still in use
METRIC_INFERENCE_DURATION: Final = "gen_ai.client.inference.duration"
METRIC_INFERENCE_TIME_TO_FIRST_CHUNK: Final = "gen_ai.client.inference.time_to_first_chunk"
METRIC_INFERENCE_TIME_PER_OUTPUT_CHUNK: Final = "gen_ai.client.inference.time_per_output_chunk"
METRIC_INFERENCE_USAGE_INPUT_TOKENS: Final = "gen_ai.client.inference.usage.input_tokens"
METRIC_INFERENCE_USAGE_OUTPUT_TOKENS: Final = "gen_ai.client.inference.usage.output_tokens"
METRIC_INFERENCE_USAGE_CACHE_READ_INPUT_TOKENS: Final = "gen_ai.client.inference.usage.cache_read.input_tokens"
METRIC_INFERENCE_USAGE_CACHE_WRITE_INPUT_TOKENS: Final = "gen_ai.client.inference.usage.cache_write.input_tokens"
METRIC_INFERENCE_USAGE_REASONING_OUTPUT_TOKENS: Final = "gen_ai.client.inference.usage.reasoning.output_tokens"
METRIC_INFERENCE_OPERATION_INPUT_TOKENS: Final = "gen_ai.client.inference.operation.input_tokens"
METRIC_INFERENCE_OPERATION_OUTPUT_TOKENS: Final = "gen_ai.client.inference.operation.output_tokens"
METRIC_EXECUTE_TOOL_DURATION: Final = "gen_ai.execute_tool.duration"
METRIC_INVOKE_AGENT_DURATION: Final = "gen_ai.invoke_agent.duration"
METRIC_INVOKE_AGENT_INFERENCE_CALLS: Final = "gen_ai.invoke_agent.inference_calls"
METRIC_INVOKE_AGENT_TOOL_CALLS: Final = "gen_ai.invoke_agent.tool_calls"
METRIC_INVOKE_WORKFLOW_DURATION: Final = "gen_ai.invoke_workflow.duration"
GEN_AI_TOKEN_MODALITY: Final = "gen_ai.token.modality"
OLD_METRIC_OPERATION_DURATION: Final = "gen_ai.client.operation.duration"
OLD_METRIC_OPERATION_TIME_TO_FIRST_CHUNK: Final = "gen_ai.client.operation.time_to_first_chunk"
OLD_METRIC_OPERATION_TIME_PER_OUTPUT_CHUNK: Final = "gen_ai.client.operation.time_per_output_chunk"
OLD_METRIC_TOKEN_USAGE: Final = "gen_ai.client.token.usage"
OLD_GEN_AI_TOKEN_TYPE: Final = "gen_ai.token.type"

OLD_NAMES: Final = {
    GEN_AI_PROVIDER_NAME: ("gen_ai.system",),
    GEN_AI_USAGE_INPUT_TOKENS: ("gen_ai.usage.prompt_tokens",),
    GEN_AI_USAGE_OUTPUT_TOKENS: ("gen_ai.usage.completion_tokens",),
    GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS: ("gen_ai.usage.cache_read_input_tokens",),
    GEN_AI_USAGE_CACHE_WRITE_INPUT_TOKENS: (
        "gen_ai.usage.cache_creation.input_tokens",
        "gen_ai.usage.cache_creation_input_tokens",
    ),
    GEN_AI_USAGE_REASONING_OUTPUT_TOKENS: ("gen_ai.usage.reasoning_tokens",),
    GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK: ("gen_ai.server.time_to_first_token",),
}
"""Today's name -> spellings of earlier generations, tried in this order when today's is absent."""


def spellings(name: str) -> tuple[str, ...]:
    """Today's name and its earlier spellings, in the order in which they are tried."""
    return name, *OLD_NAMES.get(name, ())


# Ours: the business task
TASK_ID: Final = "tokenomics.task.id"
TASK_GROUP: Final = "tokenomics.task.group"

# Ours: what became of it
OUTCOME_STATUS: Final = "tokenomics.outcome.status"
OUTCOME_VALUE: Final = "tokenomics.outcome.value"
OUTCOME_HARM: Final = "tokenomics.outcome.harm"
OUTCOME_CURRENCY: Final = "tokenomics.outcome.currency"
OUTCOME_EVALUATOR: Final = "tokenomics.outcome.evaluator"
OUTCOME_OBSERVED_TIME: Final = "tokenomics.outcome.observed_time_unix_nano"
OUTCOME_EVIDENCE: Final = "tokenomics.outcome.evidence"
OUTCOME_VERSION: Final = "tokenomics.outcome.version"

# Ours: what a span or a call was
USAGE_INCONSISTENT: Final = "tokenomics.usage.inconsistent"
USAGE_ESTIMATED: Final = "tokenomics.usage.estimated"
USAGE_COST: Final = "tokenomics.usage.cost"
USAGE_UNKNOWN_CALLS: Final = "tokenomics.usage.unknown_calls"
CACHE_HIT: Final = "tokenomics.cache.hit"
KV_CACHE_KIND: Final = "tokenomics.kv_cache.kind"
KV_CACHE_BITS: Final = "tokenomics.kv_cache.bits_per_element"
KV_CACHE_BYTES: Final = "tokenomics.kv_cache.bytes"
ANSWERED_BY: Final = "tokenomics.answered_by"
POLICY_REFUSED: Final = "tokenomics.policy.refused"
POLICY_ANSWERED: Final = "tokenomics.policy.answered"
POLICY_RULE: Final = "tokenomics.policy.rule"
POLICY_MODE: Final = "tokenomics.policy.mode"
POLICY_ACTION: Final = "tokenomics.policy.action"
POLICY_REASON: Final = "tokenomics.policy.reason"
POLICY_ESTIMATE: Final = "tokenomics.policy.estimate"
POLICY_PROPENSITY: Final = "tokenomics.policy.propensity"
POLICY_DECISION: Final = "tokenomics.policy.decision.kind"
EVENT_POLICY_DECISION: Final = "tokenomics.policy.decision"
NODE_NAME: Final = "tokenomics.node.name"
NODE_STEP: Final = "tokenomics.node.step"
BRANCH_NAME: Final = "tokenomics.branch.name"
STEP_KIND: Final = "tokenomics.step.kind"
STEP_KIND_SOURCE: Final = "tokenomics.step.kind.source"
OPERATION_RECORD_OUTCOME: Final = "record_outcome"
OPERATION_RUN_NODE: Final = "run_node"
OPERATION_RUN_BRANCH: Final = "run_branch"
OPERATION_SKIP_MODEL_CALL: Final = "skip_model_call"

# Ours: how a run ended when it neither completed nor failed, and how it goes on
RUN_STATE: Final = "tokenomics.run.state"
RUN_COST: Final = "tokenomics.run.cost"
TIME_SYNTHESIZED: Final = "tokenomics.time.synthesized"
CHECKPOINT_ID: Final = "tokenomics.checkpoint.id"
REPLAY: Final = "tokenomics.replay"
HAND_OFF_TO: Final = "tokenomics.hand_off.to"
INTERRUPT_COUNT: Final = "tokenomics.interrupt.count"
EVENT_INTERRUPT: Final = "tokenomics.interrupt"
EVENT_RESUME: Final = "tokenomics.resume"
EVENT_HAND_OFF: Final = "tokenomics.hand_off"
EVENT_DRAIN: Final = "tokenomics.drain"
LINK_KIND: Final = "tokenomics.link.kind"
LINK_RESUMES: Final = "resumes"
LINK_REPLAYS: Final = "replays"
LINK_TAKES_OVER: Final = "takes_over"
LINK_RETRIES: Final = "retries"
LINK_REPEATS: Final = "repeats"
LINK_CARRIED_OUT_BY: Final = "carried_out_by"

# Ours: attempts of one operation
LOGICAL_OPERATION_ID: Final = "tokenomics.operation.id"
ATTEMPT_NUMBER: Final = "tokenomics.attempt.number"
ATTEMPT_KIND: Final = "tokenomics.attempt.kind"
ATTEMPT_SUPERSEDED_BY: Final = "tokenomics.attempt.superseded_by"

# Ours: plans and loops
PLAN_ID: Final = "tokenomics.plan.id"
PLAN_REVISION: Final = "tokenomics.plan.revision"
PLAN_STEPS: Final = "tokenomics.plan.steps"
PLAN_STEP_STATUSES: Final = "tokenomics.plan.step.statuses"
PLAN_STEP_ID: Final = "tokenomics.plan.step.id"
PLAN_STEPS_ADDED: Final = "tokenomics.plan.steps.added"
PLAN_STEPS_REMOVED: Final = "tokenomics.plan.steps.removed"
PLAN_STEPS_COMPLETED: Final = "tokenomics.plan.steps.completed"
LOOP_KIND: Final = "tokenomics.loop.kind"
LOOP_REPEATS: Final = "tokenomics.loop.repeats"
LOOP_PERIOD: Final = "tokenomics.loop.period"

# Ours: keyed fingerprints of content that stays in the process, and the context that a call carried
ARGUMENTS_FINGERPRINT: Final = "tokenomics.arguments.fingerprint"
RESULT_FINGERPRINT: Final = "tokenomics.result.fingerprint"
CONTEXT_PREVIOUS: Final = "tokenomics.context.previous"
CONTEXT_KEPT: Final = "tokenomics.context.kept"
CONTEXT_BLOCKS: Final = "tokenomics.context.blocks"

# Phoenix and MLflow show a span's kind from this attribute of OpenInference where they know no operation for it.
OPENINFERENCE_SPAN_KIND: Final = "openinference.span.kind"
