"""What looks like waste and is none: the known false positives, written into a script.

Most of them can be told apart by what a trace shows, and must be. Some cannot: nothing in a trace says that a model
still learns from an old error message. They show what the detectors of likely waste get wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from tokenomics_plugin.trajectory import SideEffect
from trajectories.script import Script, fingerprint

__all__ = ["DECOYS", "UNDETECTABLE"]


def _reread_after_write(script: Script) -> None:
    number = len(script.steps)
    script.turn("get", f"order {number}", f"found {number}")
    script.turn("update", f"order {number}", f"done {number}", effect=SideEffect.WRITE)
    script.turn("get", f"order {number}", f"found {number}")


def _progress(script: Script) -> None:
    number = len(script.steps)
    for page in range(4):
        script.turn(f"next_page_{number}", "", f"page {number} {page}")


def _vote(script: Script) -> None:
    number = len(script.steps)
    votes = [script.model(f"Yes {number}", keep=False, temperature=0.0) for _ in range(3)]
    ballots = [script.block("assistant", f"Yes {number}", producer=vote.span_id) for vote in votes]
    script.model(f"Yes, then {number}", context=[script.block("system", "Count."), *ballots], agent="clerk", keep=False)


def _samples(script: Script) -> None:
    number = len(script.steps)
    for _ in range(3):
        script.model(f"Yes {number}", keep=False, waits=False, temperature=0.8)
    script.wait(1)


def _retry_after_change(script: Script) -> None:
    number = len(script.steps)
    for _ in range(2):
        script.turn(f"book_{number}", "seat", f"No {number}", effect=SideEffect.WRITE, error_type="ValueError")
        script.turn(f"log_in_{number}", str(len(script.steps)), f"in {len(script.steps)}", effect=SideEffect.WRITE)


def _branch_that_wrote(script: Script) -> None:
    number = len(script.steps)
    inside = {"agent": "worker", "enclosing_run_state": "cancelled"}
    task = [script.block("user", f"Write {number}")]
    script.model(f"Writing {number}", keep=False, context=task, **inside)  # type: ignore[arg-type]
    script.tool(
        f"write_{number}",
        "it",
        f"ok {number}",
        keep=False,
        effect=SideEffect.WRITE,
        **inside,  # type: ignore[arg-type]
    )


def _followed_plan(script: Script) -> None:
    number = len(script.steps)
    script.model(f"Plan {number}", step_kind="plan")
    script.plan([f"a {number}"], plan_id=f"{number:016x}")
    script.turn(f"do_{number}", "a", f"did {number}", step_id=fingerprint(f"a {number}"))


def _expired_cache(script: Script) -> None:
    script.model(f"Before {len(script.steps)}")
    script.wait(600)
    script.model(f"After {len(script.steps)}", cached=0)


def _continued_answer(script: Script) -> None:
    script.model(f"Too lo {len(script.steps)}", finish_reasons=("length",))
    script.model(f"ng {len(script.steps)}")


def _useful_critique(script: Script) -> None:
    number = len(script.steps)
    script.model(f"Draft {number}")
    shown = [script.block("system", "You criticise."), script.conversation[-1]]
    critic = script.model(f"Wrong {number}", keep=False, context=shown, agent="critic", step_kind="reflect")
    script.conversation.append(script.block("user", f"Wrong {number}", producer=critic.span_id))
    script.model(f"Better {number}")


def _panel(script: Script) -> None:
    number = len(script.steps)
    shown = [script.block("system", "You judge."), script.block("user", f"artefact {number}")]
    for _ in range(3):
        script.model(
            f"Passed {number}", keep=False, waits=False, context=shown, agent="judge", step_kind="verify", cached=5_200
        )
    script.wait(1)


def _unbilled_failure(script: Script) -> None:
    number = len(script.steps)
    failed = script.model(f"Nothing {number}", keep=False, error_type="BadRequestError", usage=None, answer_hash=None)
    fallback = script.model(f"Something {number}", model="claude-y", attempt_kind="fallback", cached=0)
    script.revise(failed, superseded_by=fallback.span_id)


def _interrupted(script: Script) -> None:
    number = len(script.steps)
    script.model(f"May I? {number}", run_state="interrupted")


def _error_that_still_teaches(script: Script) -> None:
    number = len(script.steps)
    script.turn(f"sql_{number}", "wrong column", f"Columns are {number}", error_type="ToolException")
    script.turn(f"sql_{number}", "right column", f"rows {number}")
    script.model(f"As the error said, the columns are {number}")


def _versions_compared_late(script: Script) -> None:
    number = len(script.steps)
    script.turn(f"read_{number}", "file", f"old {number}")
    script.turn(f"edit_{number}", "file", f"edited {number}", effect=SideEffect.WRITE)
    script.turn(f"read_{number}", "file", f"new {number}")
    script.model(f"Thinking {number}")
    script.model(f"The old one said otherwise {number}")


def _plan_that_cleared_the_mind(script: Script) -> None:
    number = len(script.steps)
    script.model(f"Plan {number}", step_kind="plan")
    script.plan([f"a {number}"], plan_id=f"{number:016x}")
    script.model(f"Now I see: {number}", step_kind="plan")
    script.plan([f"b {number}"], plan_id=f"{number:016x}", revision=1)
    script.turn(f"do_{number}", "b", f"did {number}", step_id=fingerprint(f"b {number}"))


def _answer_that_code_read(script: Script) -> None:
    number = len(script.steps)
    script.model(f"Category 3 {number}", keep=False)
    script.says("user", f"Category 3 has these rules {number}")
    script.model(f"By the rules {number}")


def _summarised_history(script: Script) -> None:
    number = len(script.steps)
    for name in "abc":
        script.says("user", f"{name} {number}")
    script.model(f"Before {number}", keep=False)
    script.conversation[-3:-1] = [script.block("user", f"Summary of a and b {number}", tokens=50)]
    script.model(f"After {number}", keep=False)


UNDETECTABLE: Final = frozenset(
    {
        "an error that still teaches",
        "versions that are compared late",
        "a plan that cleared the mind",
        "an answer that code read",
        "a history that was summarised",
    }
)
"""Those that no trace tells apart from waste."""

DECOYS: Final[Mapping[str, Callable[[Script], None]]] = {
    "a read after a write": _reread_after_write,
    "pages of a list": _progress,
    "a vote": _vote,
    "samples that code counts": _samples,
    "a retry after a change": _retry_after_change,
    "a cancelled branch that wrote": _branch_that_wrote,
    "a plan that was followed": _followed_plan,
    "a cache that expired": _expired_cache,
    "an answer that was continued": _continued_answer,
    "a useful critique": _useful_critique,
    "a panel of judges": _panel,
    "a failure that was not billed": _unbilled_failure,
    "a question to a person": _interrupted,
    "an error that still teaches": _error_that_still_teaches,
    "versions that are compared late": _versions_compared_late,
    "a plan that cleared the mind": _plan_that_cleared_the_mind,
    "an answer that code read": _answer_that_code_read,
    "a history that was summarised": _summarised_history,
}
"""Kind -> what writes it."""
