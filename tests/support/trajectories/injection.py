"""Waste of each kind, written into a script, with the cells that it wastes known by construction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from tokenomics_plugin.cells import Tier
from tokenomics_plugin.trajectory import SideEffect, ToolCall, Trajectory
from tokenomics_plugin.waste import Finding
from trajectories.script import Script, fingerprint

__all__ = ["INJECTIONS", "Cells", "Injected", "cells_of", "clean_turn"]

Cells = frozenset[tuple[str, int | None]]
"""Span id and position of a block; `None` stands for the call as a whole."""

_WHOLE: Final = None


@dataclass(frozen=True, kw_only=True)
class Injected:
    """Waste that was written into a script."""

    cause: str
    """Id of the detector whose business it is."""
    tier: Tier
    """How well the trace shows it."""
    spans: frozenset[str] = frozenset()
    """Span ids of calls that are wasted whole."""
    rent_of: frozenset[str] = frozenset()
    """Span ids of calls whose blocks are carried in vain."""
    since_unix_nano: int = 0
    """By calls that start from then on."""
    blocks: Cells = field(default=frozenset())
    """Other blocks that are wasted."""
    beside: tuple[Injected, ...] = ()
    """What is wasted with it for the same cause, but less surely so."""

    def cells(self, trajectory: Trajectory) -> Cells:
        """Everything that it wastes, found by looking at every block of every context."""
        rent = {
            (call.span_id, position)
            for call in trajectory.model_calls
            if call.started_unix_nano >= self.since_unix_nano
            for position, block in enumerate(call.context or ())
            if block is not None and block.producer in self.rent_of
        }
        return frozenset({(span, _WHOLE) for span in self.spans} | rent | self.blocks)


def cells_of(findings: Iterable[Finding]) -> Cells:
    """Everything that findings claim."""
    cells: set[tuple[str, int | None]] = set()
    for finding in findings:
        cells.update((span, _WHOLE) for span in (*finding.spans, *finding.outputs))
        cells.update(
            (claimed.call, place) for claimed in finding.blocks for place in range(claimed.start, claimed.stop)
        )
    return frozenset(cells)


def clean_turn(script: Script, *, effect: SideEffect = SideEffect.READ, fails: bool = False) -> ToolCall:
    """A turn in which nothing is wasted: a call that was not made before."""
    number = len(script.steps)
    said = {"error_type": "ToolException"} if fails else {}
    return script.turn(f"{effect}_{number}", f"number {number}", f"result {number}", effect=effect, **said)[1]


def _duplicate_read(script: Script) -> Injected:
    number = len(script.steps)
    script.turn("get", f"order {number}", f"found {number}")
    asker, tool = script.turn("get", f"order {number}", f"found {number}")
    return _wasted("D1", Tier.A, asker.span_id, tool.span_id, rent=True)


def _duplicate_call(script: Script) -> Injected:
    script.model(f"Think {len(script.steps)}", keep=False, temperature=0.0)
    again = script.model(f"Think {len(script.steps) - 1}", temperature=0.0)
    return _wasted("D2", Tier.A, again.span_id)


def _same_failure(error_type: str, tier: Tier) -> Callable[[Script], Injected]:
    def inject(script: Script) -> Injected:
        number = len(script.steps)
        failure: dict[str, Any] = {"effect": SideEffect.WRITE, "error_type": error_type}
        script.turn(f"book_{number}", "seat 1", f"Error {number}", **failure)
        asker, tool = script.turn(f"book_{number}", "seat 1", f"Error {number}", **failure)
        return _wasted("D3", tier, asker.span_id, tool.span_id, rent=True)

    return inject


def _error_rent(script: Script) -> Injected:
    number = len(script.steps)
    asker, error = script.turn(f"search_{number}", "wrong", f"Error {number}", error_type="ToolException")
    _, success = script.turn(f"search_{number}", "right", f"found {number}")
    rent = frozenset({asker.span_id, error.span_id})
    return Injected(cause="D4", tier=Tier.B, rent_of=rent, since_unix_nano=success.ended_unix_nano or 0)


def _loop(script: Script) -> Injected:
    number, wasted = len(script.steps), []
    for round_ in range(3):
        for name in ("list", "show"):
            asker, tool = script.turn(f"{name}_{number}", "all", f"{name} {number}")
            wasted += [asker.span_id, tool.span_id] if round_ else []
    return _wasted("D5", Tier.A, *wasted, rent=True)


def _cancelled_branch(script: Script) -> Injected:
    number = len(script.steps)
    task = [script.block("system", "You research."), script.block("user", f"Find {number}")]
    inside: dict[str, Any] = {"agent": "researcher", "enclosing_run_state": "cancelled"}
    asker = script.model(f"Look {number}", keep=False, context=task, **inside)
    tool = script.tool("look", f"at {number}", f"seen {number}", keep=False, **inside)
    task += [
        script.block("assistant", f"Look {number}", producer=asker.span_id),
        script.block("tool", f"seen {number}", producer=tool.span_id),
    ]
    last = script.model(f"So {number}", keep=False, context=task, run_state="cancelled", **inside)
    return _wasted("D9", Tier.A, asker.span_id, tool.span_id, last.span_id)


def _dead_plan(script: Script) -> Injected:
    number = len(script.steps)
    planner = script.model(f"Plan {number}", step_kind="plan")
    script.plan([f"never {number}"], plan_id=f"{number:016x}")
    script.model(f"Plan again {number}", step_kind="plan")
    script.plan([f"done {number}"], plan_id=f"{number:016x}", revision=1)
    script.turn(f"do_{number}", "it", f"did {number}", step_id=fingerprint(f"done {number}"))
    return _wasted("D10", Tier.B, planner.span_id)


def _changed_front(script: Script) -> Injected:
    before = len(script.conversation)
    script.model(f"Before {len(script.steps)}")
    script.conversation[0] = script.block("system", f"It is {len(script.steps)} o'clock.", tokens=5_000)
    call = script.model(f"After {len(script.steps)}")
    stranded = frozenset((call.span_id, position) for position in range(1, before))
    return Injected(cause="D11", tier=Tier.A, blocks=stranded)


def _missed_cache(script: Script) -> Injected:
    script.model(f"Served {len(script.steps)}")
    known = len(script.conversation) - 1
    call = script.model(f"Not served {len(script.steps)}", cached=0)
    return Injected(cause="D12", tier=Tier.A, blocks=frozenset((call.span_id, position) for position in range(known)))


def _expired(script: Script) -> Injected:
    number = len(script.steps)
    _, old = script.turn(f"read_{number}", "file", f"old {number}")
    script.turn(f"edit_{number}", "file", f"edited {number}", effect=SideEffect.WRITE)
    script.turn(f"read_{number}", "file", f"new {number}")
    comparing = script.model(f"Compare {number}")
    since = (comparing.ended_unix_nano or 0) + 1
    return Injected(cause="D13", tier=Tier.B, rent_of=frozenset({old.span_id}), since_unix_nano=since)


def _cut_off(script: Script) -> Injected:
    number = len(script.steps)
    call = script.model(f"Too lo {number}", keep=False, finish_reasons=("length",))
    script.model(f"Short {number}")
    return _wasted("D14", Tier.A, call.span_id)


def _idle_reflection(script: Script) -> Injected:
    number = len(script.steps)
    draft = script.model(f"Draft {number}")
    shown = [script.block("system", "You criticise."), script.conversation[-1]]
    critic = script.model(f"Fine {number}", keep=False, context=shown, agent="critic", step_kind="reflect")
    script.conversation.append(script.block("user", f"Fine {number}", producer=critic.span_id))
    revision = script.model(f"Draft {number}")
    assert revision.answer_hash == draft.answer_hash
    critique = _wasted("D15", Tier.C, critic.span_id)
    return replace(_wasted("D15", Tier.A, revision.span_id), beside=(critique,))


def _second_verdict(script: Script) -> Injected:
    number = len(script.steps)
    shown = [script.block("system", "You check."), script.block("user", f"artefact {number}")]
    checker: dict[str, Any] = {"context": shown, "keep": False, "agent": "checker", "step_kind": "verify"}
    script.model(f"Passed {number}", **checker)
    again = script.model(f"Passed {number}", **checker)
    return _wasted("D16", Tier.A, again.span_id)


def _billed_failure(script: Script) -> Injected:
    number = len(script.steps)
    failed = script.model(f"Nothing {number}", keep=False, error_type="ContentFilterValidationError", answer_hash=None)
    fallback = script.model(
        f"Something {number}", model="claude-y", attempt_kind="fallback", operation_id=failed.span_id, cached=0
    )
    script.revise(failed, superseded_by=fallback.span_id, operation_id=failed.span_id)
    return _wasted("D18", Tier.A, failed.span_id)


def _cancelled_stream(script: Script) -> Injected:
    number = len(script.steps)
    call = script.model(f"Never mi {number}", keep=False, run_state="cancelled", error_type="CancelledError")
    script.model(f"Instead {number}")
    return _wasted("D19", Tier.A, call.span_id)


def _second_sample(script: Script) -> Injected:
    script.model(f"Sure {len(script.steps)}", keep=False, temperature=0.7)
    again = script.model(f"Sure {len(script.steps) - 1}", temperature=0.7)
    return _wasted("D2", Tier.B, again.span_id)


def _billed_timeout(script: Script) -> Injected:
    number = len(script.steps)
    failed = script.model(f"Nothing {number}", keep=False, error_type="ReadTimeout", answer_hash=None)
    fallback = script.model(
        f"Something {number}", model="claude-y", attempt_kind="fallback", operation_id=failed.span_id, cached=0
    )
    script.revise(failed, superseded_by=fallback.span_id, operation_id=failed.span_id)
    return _wasted("D18", Tier.C, failed.span_id)


def _left_stream(script: Script) -> Injected:
    number = len(script.steps)
    call = script.model(f"And anoth {number}", keep=False, run_state="abandoned")
    script.model(f"Enough {number}")
    return _wasted("D19", Tier.C, call.span_id)


def _forgotten_answer(script: Script) -> Injected:
    number = len(script.steps)
    call = script.model(f"Forget it {number}", keep=False)
    script.says("user", f"Hello? {number}")
    script.model(f"Hello {number}")
    return _wasted("D14", Tier.C, call.span_id)


def _loser(script: Script) -> Injected:
    number = len(script.steps)
    samples = [script.model(f"Draft {number} {n}", keep=False, waits=False, temperature=0.9) for n in range(2)]
    script.wait(1)
    script.conversation.append(script.block("assistant", f"Draft {number} 0", producer=samples[0].span_id))
    script.model(f"Taken {number}")
    return _wasted("D9", Tier.C, samples[1].span_id)


def _slid_window(script: Script) -> Injected:
    number = len(script.steps)
    for name in "abc":
        script.says("user", f"{name} {number}")
    script.model(f"Before {number}", keep=False)
    place = len(script.conversation) - 3
    del script.conversation[place]
    call = script.model(f"After {number}", keep=False)
    stranded = frozenset((call.span_id, position) for position in (place, place + 1))
    return Injected(cause="D11", tier=Tier.C, blocks=stranded)


def _late_answer(script: Script) -> Injected:
    """Goes last: what it repeats is the answer that is delivered."""
    script.model("The answer", step_kind="answer")
    _, tool = script.turn("browse", f"page {len(script.steps)}", f"text {len(script.steps)}")
    asker = script.steps[-2]
    again = script.model("The answer", step_kind="answer")
    return _wasted("D17", Tier.A, asker.span_id, tool.span_id, again.span_id)


def _wasted(cause: str, tier: Tier, *spans: str, rent: bool = False) -> Injected:
    return Injected(cause=cause, tier=tier, spans=frozenset(spans), rent_of=frozenset(spans if rent else ()))


INJECTIONS: Final[Mapping[str, Callable[[Script], Injected]]] = {
    "D1": _duplicate_read,
    "D2": _duplicate_call,
    "D3": _same_failure("ValidationError", Tier.A),
    "D3 of unknown class": _same_failure("ToolException", Tier.B),
    "D3 that may pass": _same_failure("RateLimitError", Tier.C),
    "D2 of samples": _second_sample,
    "D4": _error_rent,
    "D5": _loop,
    "D9": _cancelled_branch,
    "D9 of a choice": _loser,
    "D10": _dead_plan,
    "D11": _changed_front,
    "D11 of a window": _slid_window,
    "D12": _missed_cache,
    "D13": _expired,
    "D14": _cut_off,
    "D14 of a forgotten answer": _forgotten_answer,
    "D15": _idle_reflection,
    "D16": _second_verdict,
    "D17": _late_answer,
    "D18": _billed_failure,
    "D18 that may pass": _billed_timeout,
    "D19": _cancelled_stream,
    "D19 of a reader who left": _left_stream,
}
"""Kind -> what writes it."""
