"""OTLP in foreign dialects into a store: OpenInference first of all, and OpenLLMetry, LangSmith and OpenLIT.

Spans keep their ids, so what a collector received already is known again. What they say of models, tools and tokens
is said in the conventions' names; only model calls bear tokens, for agents and chains repeat those of their
children. What users, models and tools said is replaced by keyed hashes, error messages included.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, BinaryIO, Final

from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tokenomics_plugin import semconv
from tokenomics_plugin.fingerprint import FingerprintKeys
from tokenomics_plugin.importing.blocks import arguments_fingerprint, process_keys
from tokenomics_plugin.importing.content import is_content
from tokenomics_plugin.importing.contexts import TraceContexts
from tokenomics_plugin.importing.dialects import meaning
from tokenomics_plugin.importing.meaning import Meaning, Said
from tokenomics_plugin.importing.nesting import Nesting
from tokenomics_plugin.importing.otlp import TOOL_ERROR, Attribute, key_values, money, plain
from tokenomics_plugin.otlp_json import Signal, parse_line
from tokenomics_plugin.store.importing import MAX_LINE_BYTES, ImportResult, Requests, import_lines
from tokenomics_plugin.store.trace_store import TraceStore

__all__ = ["DialectReader", "import_openinference"]

_OURS: Final = "tokenomics_"
_BORDERS: Final = frozenset({semconv.OPERATION_EXECUTE_TOOL, semconv.OPERATION_INVOKE_AGENT})
_EVENT_ATTRIBUTES: Final = ("exception.type", "tokenomics.")
_TOKEN_COUNTS: Final = ("llm.token_count.", "llm.usage.", "gen_ai.usage.", "llm.cost.")
# Where a dialect has its own mark, what it writes under these names need not be what they mean.
_OVERRULED: Final = frozenset(
    {semconv.GEN_AI_OPERATION_NAME, *semconv.spellings(semconv.GEN_AI_PROVIDER_NAME), "llm.provider", "llm.system"}
)


def import_openinference(
    store: TraceStore,
    file: BinaryIO,
    *,
    keys: FingerprintKeys | None = None,
    max_line_bytes: int = MAX_LINE_BYTES,
) -> ImportResult:
    """Load OTLP JSON lines whose spans carry attributes of other instrumentations, plain or gzipped.

    Args:
        store: Where to.
        file: Open for reading bytes; need not be seekable.
        keys: Keys of the fingerprints; `process_keys` by default.
        max_line_bytes: Longest line that is read into memory.

    Raises:
        StoreError: If the store cannot be written; what was loaded until then stays.
    """
    reader = DialectReader(process_keys() if keys is None else keys)
    result = import_lines(store, file, reader.read, max_line_bytes=max_line_bytes)
    return replace(result, notes=reader.notes)


class DialectReader:
    """Turns requests in any dialect into requests in the conventions' words.

    Args:
        keys: Keys of the fingerprints; a trace has that of the period in which its first span started.
    """

    def __init__(self, keys: FingerprintKeys) -> None:
        self.notes: Counter[str] = Counter()
        """What was left out -> how often."""
        self._keys = keys
        self._nesting = Nesting()
        self._contexts = TraceContexts()

    def read(self, line: bytes) -> Requests:
        """What one line carries.

        Raises:
            MalformedOtlpError: If the line is no OTLP request.
        """
        signal, request = parse_line(line)
        if signal is Signal.TRACES:
            # From the inside out, whatever the order of the file: a call before the span around it.
            for span in sorted(_spans(request), key=_from_the_inside):
                self._translate(span)
        elif signal is Signal.LOGS:
            _strip_logs(request)
        return ((signal, request),)

    def _translate(self, span: Any) -> None:
        attributes = {item.key: plain(item.value) for item in span.attributes}
        said = meaning(span.name, attributes, is_root=not span.parent_span_id)
        if said is None:  # none of our business, such as a database
            return
        is_call = said.operation in semconv.BILLED_OPERATIONS
        parent = span.trace_id + span.parent_span_id if span.parent_span_id else None
        is_repeat = self._nesting.is_repeat(
            span.trace_id + span.span_id,
            parent,
            is_call=is_call and said.operation != semconv.OPERATION_EMBEDDINGS,
            is_border=said.operation in _BORDERS,
        )
        bears_tokens = is_call and not is_repeat
        self._note(said, is_repeat=is_repeat, bears_tokens=bears_tokens)
        words = dict(said.attributes)
        words[semconv.GEN_AI_OPERATION_NAME] = None if is_repeat else said.operation
        if not is_repeat:
            words |= self._fingerprints(span, said)
        if bears_tokens:
            words |= {} if said.usage is None else said.usage.to_attributes()
            words[semconv.USAGE_COST] = money(said.cost)
        if said.is_error:
            span.status.code = Status.STATUS_CODE_ERROR
            words[semconv.ERROR_TYPE] = TOOL_ERROR
        _strip(span, words)

    def _fingerprints(self, span: Any, said: Meaning) -> dict[str, Attribute | None]:
        """What a span carried, was given and answered, as hashes."""
        trace_id, span_id = span.trace_id, span.span_id.hex()
        key = self._contexts.fingerprinter(trace_id, self._keys.current(span.start_time_unix_nano))
        words: dict[str, Attribute | None] = {}
        if said.carried is not None:
            words |= self._contexts.carried(trace_id, span_id, said.carried, key).to_attributes()
        if said.answer:
            tokens = said.usage.output_tokens if said.usage is not None and len(said.answer) == 1 else None
            hashes = [self._contexts.produced(trace_id, span_id, answer, key, tokens) for answer in said.answer]
            words[semconv.RESULT_FINGERPRINT] = hashes[0] if len(hashes) == 1 else key.of(*hashes)
        if said.result is not None:
            result = Said(role="tool", content=said.result)
            words[semconv.RESULT_FINGERPRINT] = self._contexts.produced(trace_id, span_id, result, key)
        if said.arguments is not None:
            words[semconv.ARGUMENTS_FINGERPRINT] = arguments_fingerprint(key, said.arguments)
        return words

    def _note(self, said: Meaning, *, is_repeat: bool, bears_tokens: bool) -> None:
        if is_repeat:
            self.notes["spans around or inside a model call that repeat it: counted once"] += 1
        elif bears_tokens and said.usage is None:
            self.notes["model calls without token counts: unknown, not 0"] += 1
        elif bears_tokens and said.usage is not None and not said.usage.is_consistent:
            self.notes["model calls whose token counts contradict each other"] += 1
        elif not bears_tokens and said.usage is not None:
            self.notes["agents and chains that repeat their calls' tokens: not counted again"] += 1


def _spans(request: Any) -> Iterator[Any]:
    for of_resource in request.resource_spans:
        for of_scope in of_resource.scope_spans:
            if not of_scope.scope.name.startswith(_OURS):
                yield from of_scope.spans


def _from_the_inside(span: Any) -> tuple[int, int]:
    return span.end_time_unix_nano, -span.start_time_unix_nano


def _strip(span: Any, words: dict[str, Attribute | None]) -> None:
    """Put our words in the place of what they were read from, and leave out all content."""
    replaced = {name for name, value in words.items() if value is not None} | _OVERRULED
    kept = [
        item
        for item in span.attributes
        if item.key not in replaced and not item.key.startswith(_TOKEN_COUNTS) and not is_content(item.key)
    ]
    if span.status.code == Status.STATUS_CODE_ERROR and all(item.key != semconv.ERROR_TYPE for item in kept):
        words = {semconv.ERROR_TYPE: _error_type(span), **words}
    new = key_values(words)
    del span.attributes[:]
    span.attributes.extend([*kept, *new])
    span.status.message = ""
    for event in span.events:
        of_event = [item for item in event.attributes if item.key.startswith(_EVENT_ATTRIBUTES)]
        del event.attributes[:]
        event.attributes.extend(of_event)


def _error_type(span: Span) -> str | None:
    return next(
        (
            item.value.string_value
            for event in span.events
            for item in event.attributes
            if item.key == "exception.type" and item.value.string_value
        ),
        None,
    )


def _strip_logs(request: Any) -> None:
    """Leave out what records of the conventions' events say in words."""
    for of_resource in request.resource_logs:
        for of_scope in of_resource.scope_logs:
            for record in of_scope.log_records:
                if record.event_name.startswith("gen_ai.") and record.event_name != semconv.EVENT_EVALUATION_RESULT:
                    kept = [item for item in record.attributes if not is_content(item.key)]
                    del record.attributes[:]
                    record.attributes.extend(kept)
                    record.ClearField("body")
