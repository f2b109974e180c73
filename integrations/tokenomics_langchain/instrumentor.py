"""Tracing a program that knows nothing of it, as `opentelemetry-instrument python app.py` does.

The handler listens to every run of the process. Beyond what it can do from callbacks, the frames of model calls are
wrapped, so that the spans of a model's HTTP client nest under the call wherever it is made.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import ExitStack
from typing import Any, Final

from tokenomics_plugin.errors import MissingExtraError

try:
    from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined] # untyped by its authors
except ModuleNotFoundError as error:
    if error.name is None or not error.name.startswith("opentelemetry.instrumentation"):
        raise
    raise MissingExtraError(error.name, extra="langchain") from error

from tokenomics_langchain.callbacks import TokenomicsCallbackHandler
from tokenomics_langchain.listening import listen
from tokenomics_langchain.model_frames import ModelFrames

__all__ = ["LangChainInstrumentor"]

_DEPENDENCIES: Final = ("langchain-core >= 1.4, < 2", "langgraph >= 1.2.4, < 2")


class LangChainInstrumentor(BaseInstrumentor):  # type: ignore[misc]
    """Traces all of LangChain and LangGraph in this process, as `LangChainInstrumentor().instrument()`.

    Any other way to trace may be used beside it: a run is recorded once. `uninstrument()` leaves both libraries as
    they were; runs that are open then are still recorded to their end.

    Its entry point is named `tokenomics_langchain`, by which `OTEL_PYTHON_DISABLED_INSTRUMENTATIONS` switches it off.
    """

    _undo: ExitStack

    def instrumentation_dependencies(self) -> Collection[str]:
        """What has to be installed for there to be anything to trace."""
        return _DEPENDENCIES

    def _instrument(self, *, handler: TokenomicsCallbackHandler | None = None, **options: Any) -> None:
        """Start to trace.

        Args:
            handler: The handler to trace with, in place of a new one.
            options: For the new handler, such as `tracer_provider` or `capture_content`.
        """
        if handler is not None and options:
            raise ValueError(f"got a handler together with {', '.join(options)}: give these to the handler")
        tracing = handler or TokenomicsCallbackHandler(**options)

        frames = ModelFrames(tracing.find_live)
        with ExitStack() as undo:
            undo.callback(frames.remove)
            frames.install()
            undo.callback(setattr, tracing, "model_starts", None)
            tracing.model_starts = frames.model_starts
            undo.callback(listen(tracing).stop)
            self._undo = undo.pop_all()

    def _uninstrument(self, **_: Any) -> None:
        """Stop to trace."""
        self._undo.close()
