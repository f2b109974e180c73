"""What to do about it: each action with how it is known, what it saves, what it risks, and how to undo it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tokenomics_plugin.cells import CellSummary
from tokenomics_plugin.pages.savings import Savings
from tokenomics_plugin.pages.words import amount, columns, estimated_usd, range_words, text
from tokenomics_plugin.report.document import Block, Cell, Fact, Facts, Link, Note, Section, Table
from tokenomics_plugin.report.wording import count, counted, percent, usd
from tokenomics_plugin.simulation import Configuration, IdentificationClass, Recommendation

__all__ = ["actions_section", "failed_section"]

_CLASSES: Final = {
    IdentificationClass.EXACT: "I, exact from the logs",
    IdentificationClass.REPLAY: "II, needs a replay",
    IdentificationClass.RANDOMISATION: "III, needs randomisation",
    IdentificationClass.ASSOCIATION: "IV, association only",
}
_EDITING: Final = "langchain.agents.middleware.ContextEditingMiddleware()"
_BY_CAUSE: Final = {
    "D1": ("Answer repeated reads from memory", "tokenomics_langchain.MemoTools(read_only=[...], mode='shadow')"),
    "D3": ("Do not retry what fails for good", "langchain.agents.middleware.ToolRetryMiddleware(retry_on=...)"),
    "D4": (
        "Clear errors from the context once they are overcome",
        "langchain.agents.middleware.ContextEditingMiddleware()",
    ),
    "D5": ("Break loops", "tokenomics_langchain.LoopBreaker(repeats=3, read_only=[...], action='stop', mode='shadow')"),
    "D11": ("Put what changes at the end of the prompt", ""),
    "D12": ("Ask the provider to cache the prompt's beginning", ""),
    "D13": ("Clear tool results that are no longer used", _EDITING),
}
"""Cause of waste -> what would remove it, and its configuration where there is one."""
_HEADER: Final = (
    "Action",
    "Known how",
    "Saves",
    "Value at risk",
    "Pays if a success is worth",
    "Configuration",
)
_WORDY: Final = _HEADER[1:]


def actions_section(savings: Savings | None, ledger: CellSummary) -> Section:
    """Money that can be recovered now, and all actions."""
    exact = () if savings is None else savings.recommendations
    blocks: list[Block] = [
        Facts(id="recoverable", facts=(_recoverable(savings),)),
        Table(
            id="actions",
            title="Actions",
            columns=columns(*_HEADER, wordy=_WORDY),
            rows=(*(_exact(advice) for advice in exact), *_replays(ledger)),
            notes=(
                "Savings of different actions overlap: they are not to be added.",
                "Class I compares the logged runs with prefixes of themselves; classes II to IV are upper limits until "
                "somebody has tried.",
            ),
            empty="Nothing can be recommended from these runs.",
        ),
    ]
    if savings is not None and savings.choice is not None:
        blocks.append(Note(text=_choice(savings)))
    return Section(
        id="actions",
        title="What can be saved",
        lead="Rules that stop a run were applied to the logged runs, exactly: a run that is stopped is a prefix of the "
        "one that was not. What would need the agent to act otherwise is listed with what it could save at most.",
        blocks=tuple(blocks),
    )


def failed_section(savings: Savings | None) -> Section | None:
    """Money in failed runs, which is no waste."""
    if savings is None or savings.failed is None:
        return None
    failed, total = savings.failed, savings.results[0].spend
    facts = (
        Fact(
            title="Spent in runs that failed",
            figure=amount(failed.spend),
            meaning="Whoever tries what may fail pays for the failures too: most of it is the price of the successes.",
            basis=f"{percent(failed.spend / total)} of {usd(total)} in {counted(savings.runs, 'run')}."
            if total
            else "",
        ),
        Fact(
            title="Of it avoidable without losing a success",
            figure=amount(failed.avoidable),
            meaning="What the best rule that loses none, known or possible, would have saved of it.",
            basis="" if failed.best is None else f"The rule: {failed.best.rule.description}.",
            caveat="the best of many rules owes some of it to luck",
        ),
    )
    return Section(id="failed", title="Money in failed runs", lead="", blocks=(Facts(id="failed", facts=facts),))


def _recoverable(savings: Savings | None) -> Fact:
    title = "Recoverable now"
    if savings is None:
        return Fact(
            title=title, figure=Cell(text="not estimated"), caveat="too few runs of known cost to judge a rule by"
        )
    sample = "" if savings.share >= 1 else f", a random {percent(savings.share)} of all traces"
    basis = f"On {counted(savings.runs, 'run')}{sample}."
    if not savings.recommendations:
        return Fact(title=title, figure=amount(0.0), basis=basis, meaning="No rule saves more than it may lose.")
    best = savings.recommendations[0]
    return Fact(
        title=title,
        figure=amount(best.saving.point),
        interval=range_words(best.saving.interval),
        meaning=f"By one rule, exactly as the logs say: {best.action[0].lower()}{best.action[1:]}",
        basis=basis,
        details={"low": best.saving.interval.low, "high": best.saving.interval.high},
    )


def _exact(advice: Recommendation) -> tuple[Cell, ...]:
    where = advice.evidence[0] if advice.evidence else None
    link = None
    if where is not None and where.trace_id is not None:
        link = Link(view="trace", parameters={"trace_id": where.trace_id, "span_id": where.span_id or ""})
    return (
        Cell(
            text=advice.action.rstrip("."),
            value=advice.action,
            link=link,
            note=" ".join((advice.rollback, *advice.assumptions)),
        ),
        text(_CLASSES[advice.identification]),
        estimated_usd(advice.saving),
        Cell(text="a success has no value" if advice.value_at_risk is None else range_words(advice.value_at_risk)),
        Cell(text="anything") if advice.break_even_value is None else _less_than(advice.break_even_value),
        text("" if advice.configuration is None else _configuration(advice.configuration)),
    )


def _replays(ledger: CellSummary) -> Iterator[tuple[Cell, ...]]:
    """What removing a cause would save at most; only a replay or an experiment can say what it does to outcomes."""
    shares = ledger.shares()
    for cause, (action, configuration) in _BY_CAUSE.items():
        if cause in shares and shares[cause].standalone:
            part = shares[cause]
            yield (
                Cell(
                    text=action,
                    value=action,
                    link=Link(view="findings", parameters={"cause": cause}),
                    note=f"Removes {cause}; take it out again to undo it. The agent must end as well without what it "
                    "removes.",
                ),
                text(_CLASSES[IdentificationClass.REPLAY]),
                Cell(
                    text=f"{usd(float(part.share))} ({usd(part.incremental)} to {usd(part.standalone)})",
                    value=float(part.share),
                ),
                Cell(text="unknown until replayed"),
                Cell(text="unknown until replayed"),
                text(configuration),
            )


def _less_than(value: float) -> Cell:
    return Cell(text=f"less than {usd(value)}", value=value)


def _configuration(configuration: Configuration) -> str:
    return f"{configuration.component.rpartition('.')[0]}.{configuration.text}"


def _choice(savings: Savings) -> str:
    assert savings.choice is not None
    found = savings.choice.reported_on
    return (
        "Chosen on half of the tasks and judged on the other half, which had no say: "
        f"{savings.choice.rule.description}. There it saves {percent(found.saved_share.point)} of the spend, and loses "
        f"{count(found.lost_successes)} of the successes ({count(found.successes)})."
    )
