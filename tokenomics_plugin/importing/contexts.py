"""What the model calls of many traces carried, when each call lists its whole conversation.

A file repeats every message on every later call. Here each call is written as the difference from the earlier call
of its trace that it is most like. Traces are forgotten the longest unused first; a call whose trace was forgotten
begins anew, which costs bytes and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from tokenomics_plugin.context_blocks import ContextBlock, ContextDelta, common_prefix
from tokenomics_plugin.fingerprint import Fingerprinter
from tokenomics_plugin.importing.blocks import message_block
from tokenomics_plugin.importing.meaning import Said

__all__ = ["TraceContexts"]

_MAX_TRACES: Final = 512
_MAX_BRANCHES: Final = 8
_MAX_BLOCKS: Final = 20_000


_Branch = tuple[str, list[ContextBlock]]


@dataclass(eq=False, slots=True)
class _Trace:
    """What is remembered of one trace."""

    fingerprinter: Fingerprinter
    branches: list[_Branch] = field(default_factory=list)
    """Span and context of calls, each the latest of its conversation."""
    blocks: dict[str, ContextBlock] = field(default_factory=dict)
    """By hash: messages as they were first carried, or as a span produced them."""


class TraceContexts:
    """The calls of several traces."""

    def __init__(self) -> None:
        self._traces: dict[bytes, _Trace] = {}

    def fingerprinter(self, trace_id: bytes, default: Fingerprinter) -> Fingerprinter:
        """The key of a trace: the one that its first span was given."""
        return self._trace(trace_id, default).fingerprinter

    def carried(
        self, trace_id: bytes, span_id: str, messages: Sequence[Said], fingerprinter: Fingerprinter
    ) -> ContextDelta:
        """What a call carried, as the difference from the call of its trace that it is most like."""
        trace = self._trace(trace_id, fingerprinter)
        blocks = [self._block(trace, said) for said in messages]
        closest = _most_alike(trace.branches, blocks)
        if closest is None:
            delta = ContextDelta.between(blocks)
        else:
            delta = ContextDelta.between(blocks, previous=closest[0], before=closest[1])
            if delta.kept == len(closest[1]):  # it goes on: what it was until then is no longer needed
                trace.branches.remove(closest)
        trace.branches = [*trace.branches[1 - _MAX_BRANCHES :], (span_id, blocks)]
        return delta

    def produced(
        self, trace_id: bytes, span_id: str, said: Said, fingerprinter: Fingerprinter, tokens: int | None = None
    ) -> str:
        """Remember which span produced a message, and return the message's fingerprint."""
        trace = self._trace(trace_id, fingerprinter)
        block = message_block(trace.fingerprinter, said.role, said.content, said.calls, tokens=tokens, producer=span_id)
        _keep(trace.blocks, trace.blocks.get(block.hash, block))
        return block.hash

    def _block(self, trace: _Trace, said: Said) -> ContextBlock:
        block = message_block(trace.fingerprinter, said.role, said.content, said.calls)
        known = trace.blocks.get(block.hash, block)
        _keep(trace.blocks, known)
        return known

    def _trace(self, trace_id: bytes, fingerprinter: Fingerprinter) -> _Trace:
        trace = self._traces.pop(trace_id, None) or _Trace(fingerprinter)
        self._traces[trace_id] = trace
        if len(self._traces) > _MAX_TRACES:
            del self._traces[next(iter(self._traces))]
        return trace


def _most_alike(branches: Sequence[_Branch], blocks: Sequence[ContextBlock]) -> _Branch | None:
    """The latest branch that goes on, else the one of which most can be copied."""
    for branch in reversed(branches):
        if common_prefix(branch[1], blocks) == len(branch[1]):
            return branch
    hashes = {block.hash for block in blocks}
    return max(branches, key=lambda branch: sum(block.hash in hashes for block in branch[1]), default=None)


def _keep(blocks: dict[str, ContextBlock], block: ContextBlock) -> None:
    blocks[block.hash] = block
    if len(blocks) > _MAX_BLOCKS:
        del blocks[next(iter(blocks))]
