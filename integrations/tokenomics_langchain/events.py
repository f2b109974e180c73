"""What happened in a call, as log events of the GenAI conventions.

The events repeat what the call's span says, for backends that keep content apart from traces and for programs
whose spans are sampled. They are tied to the span by its context.

The conventions only recommend an exception's message where its type is given, so with content off the type is all
that an event tells: messages and stack traces quote what a tool or a model was given.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Mapping

from opentelemetry._logs import LoggerProvider, SeverityNumber, get_logger
from opentelemetry.context import Context
from opentelemetry.semconv.attributes.exception_attributes import (
    EXCEPTION_MESSAGE,
    EXCEPTION_STACKTRACE,
    EXCEPTION_TYPE,
)
from opentelemetry.util.types import AttributeValue

from tokenomics_langchain.attributes import Attributes
from tokenomics_langchain.content import ContentCapture, Redaction
from tokenomics_langchain.endings import full_name
from tokenomics_plugin import semconv
from tokenomics_plugin.version import package_version

__all__ = ["CallEvents"]


class CallEvents:
    """Emits the events of one logger provider; safe to use from any thread.

    Args:
        logger_provider: Where events go; the global provider if `None`, also one that is set later.
        redact: What the text of an exception passes before it leaves the process.
    """

    def __init__(self, logger_provider: LoggerProvider | None, *, redact: Redaction | None = None) -> None:
        self._logger = get_logger(
            "tokenomics_langchain", package_version() or "", logger_provider, schema_url=semconv.SCHEMA_URL
        )
        self._capture = ContentCapture(on_events=True, redact=redact)

    def details(self, attributes: Mapping[str, AttributeValue], context: Context) -> None:
        """Tell what a model call was given and answered: `gen_ai.client.inference.operation.details`.

        Args:
            attributes: Those of the call's span; content as JSON text, as on spans, and redacted already.
            context: With the call's span.
        """
        self._emit(semconv.EVENT_INFERENCE_DETAILS, SeverityNumber.DEBUG, dict(attributes), context)

    def exception(self, error: BaseException, context: Context, *, with_text: bool) -> None:
        """Tell what a model call failed with: `gen_ai.client.operation.exception`.

        Args:
            error: What was raised.
            context: With the call's span.
            with_text: Whether content is captured, and so the message and the stack trace.
        """
        kind = type(error)
        attributes: Attributes = {EXCEPTION_TYPE: full_name(kind)}
        if with_text:
            texts: Attributes = {
                EXCEPTION_MESSAGE: str(error),
                EXCEPTION_STACKTRACE: "".join(traceback.format_exception(error)),
            }
            attributes |= self._capture.passed(texts)
        self._emit(semconv.EVENT_OPERATION_EXCEPTION, SeverityNumber.WARN, attributes, context)

    def _emit(self, name: str, severity: SeverityNumber, attributes: Attributes, context: Context) -> None:
        self._logger.emit(
            timestamp=time.time_ns(),
            context=context,
            severity_number=severity,
            attributes=attributes,
            event_name=name,
        )
