"""Who takes part, and how their tasks end: agents, models and tools; a frontier of models; Simpson's alarm."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from tokenomics_plugin.analysis import Analysis
from tokenomics_plugin.marginal import Contender, FrontierStep, TaskResult, cost_success_frontier
from tokenomics_plugin.pages.words import amount, columns, figure_row, number, share, spent, text, tokens
from tokenomics_plugin.pricing import TOKEN_CLASSES
from tokenomics_plugin.report.document import (
    Axis,
    Bar,
    BarChart,
    Block,
    Cell,
    IntervalChart,
    Line,
    LineChart,
    Link,
    Note,
    Part,
    Point,
    Section,
    Shade,
    Table,
)
from tokenomics_plugin.report.figure import Figure
from tokenomics_plugin.report.headline import COST_PER_SUCCESS, SUCCESS_RATE, FigureKind
from tokenomics_plugin.report.summary import GroupSummary, Summary
from tokenomics_plugin.report.wording import (
    NAMELESS_AGENT,
    NAMELESS_MODEL,
    NAMELESS_TOOL,
    TOKEN_CLASS_NAMES,
    group_name,
    usd,
)

__all__ = ["frontier_section", "parties_section", "tokens_section"]

_MAX_ROWS: Final = 25
_CHART_ROWS: Final = 8
_FEWEST_PAIRS: Final = 5
_HEADER: Final = ("", "Spans", "Errors", "Calls", "Tokens", "Cost", "Tasks", "Success rate", "Cost per success")
_TOKEN_SHADES: Final = {name: Shade(name) for name in TOKEN_CLASSES}


def parties_section(summary: Summary) -> Section:
    """Agents, models and tools."""
    return Section(
        id="parties",
        title="Agents, models and tools",
        lead="An agent's, model's or tool's tasks are all those that it took part in, at their whole cost. This is an "
        "association: taking part is not being the cause, and hard tasks call for dear models.",
        blocks=(
            _chart("success-rates", "Success rate", SUCCESS_RATE, summary, lambda group: group.success_rate, "percent"),
            _chart(
                "costs-per-success",
                "Cost per success",
                COST_PER_SUCCESS,
                summary,
                lambda group: group.cost_per_success,
                "usd",
            ),
            _table("agents", "Agents", summary.agents, NAMELESS_AGENT, "agent"),
            _table("models", "Models", summary.models, NAMELESS_MODEL, "model"),
            _table("tools", "Tools", summary.tools, NAMELESS_TOOL, "tool"),
        ),
    )


def tokens_section(summary: Summary) -> Section:
    """What the tokens were."""
    models = [group for group in summary.models if group.spend.tokens.total]
    return Section(
        id="tokens",
        title="What the tokens were",
        lead="Input that is read again from a cache is cheap; output and hidden reasoning are the dear ones.",
        blocks=(
            BarChart(
                id="token-classes",
                title="Tokens of each model by what they are billed as",
                description="Tokens of each model, by class.",
                bars=tuple(_token_bar(group) for group in models[:_CHART_ROWS]),
                empty="No token has been counted yet.",
            ),
        ),
    )


def frontier_section(analysis: Analysis) -> Section:
    """Models that tried the same tasks: cost against success, and the price of a further success."""
    contenders, cluster_of = _contenders(analysis)
    steps = cost_success_frontier(contenders, cluster_of=cluster_of) if len(contenders) > 1 else ()
    blocks: list[Block] = [_frontier_chart(contenders, steps)]
    if alarm := _simpson(analysis):
        blocks.append(Note(text=alarm, is_warning=True))
    return Section(
        id="frontier",
        title="Which model is worth its price",
        lead="Models side by side on tasks of the groups that both worked on; what each further success costs is on "
        "the way from one point to the next. Points that another beats in both are grey.",
        blocks=tuple(blocks),
    )


def _chart(
    id_: str, title: str, kind: FigureKind, summary: Summary, of: Callable[[GroupSummary], Figure], form: str
) -> IntervalChart:
    groups = [
        *((group, NAMELESS_AGENT) for group in summary.agents[:_CHART_ROWS]),
        *((group, NAMELESS_MODEL) for group in summary.models[:_CHART_ROWS]),
    ]
    everything = summary.success_rate if kind is SUCCESS_RATE else summary.cost_per_success
    rows = [figure_row(text("All tasks"), kind, everything)]
    rows += [figure_row(text(group_name(group, nameless=nameless)), kind, of(group)) for group, nameless in groups]
    return IntervalChart(
        id=id_,
        title=title,
        description=f"{title} of all tasks, of each agent and of each model, with 95% intervals.",
        axis=Axis(title="USD" if form == "usd" else "", form=form),
        rows=tuple(rows) if summary.tasks else (),
        empty="There are no tasks yet.",
    )


def _table(id_: str, title: str, groups: Sequence[GroupSummary], nameless: str, kind: str) -> Table:
    return Table(
        id=id_,
        title=title,
        columns=columns(*_HEADER),
        rows=tuple(_group(group, nameless, kind) for group in groups[:_MAX_ROWS]),
        hidden=max(0, len(groups) - _MAX_ROWS),
    )


def _group(group: GroupSummary, nameless: str, kind: str) -> tuple[Cell, ...]:
    link = None if group.name is None else Link(view="runs", parameters={kind: group.name})
    return (
        Cell(text=group_name(group, nameless=nameless), value=group.name, link=link),
        number(group.spend.spans),
        number(group.spend.errors),
        number(group.spend.calls),
        tokens(group.spend),
        spent(group.spend),
        number(group.tasks),
        Cell(text=SUCCESS_RATE.short(group.success_rate), value=group.success_rate.estimate),
        Cell(text=COST_PER_SUCCESS.short(group.cost_per_success), value=group.cost_per_success.estimate),
    )


def _token_bar(group: GroupSummary) -> Bar:
    counts = {name: getattr(group.spend.tokens, name) for name in TOKEN_CLASSES}
    return Bar(
        name=Cell(text=group_name(group, nameless=NAMELESS_MODEL), value=group.name),
        figure=tokens(group.spend),
        parts=tuple(
            Part(shade=_TOKEN_SHADES[name], size=float(size), figure=number(size), label=TOKEN_CLASS_NAMES[name])
            for name, size in counts.items()
            if size
        ),
    )


def _contenders(analysis: Analysis) -> tuple[list[Contender], Mapping[str, str]]:
    """Models on groups of tasks that all of them worked on: a group's result is the mean over a model's tasks of it.

    A task counts for a model when no other model took part in it; tasks without a group are a group of their own, and
    so compare nothing.
    """
    rows = analysis.rows(
        "SELECT models[1], coalesce(runs.task_group, runs.task_id), runs.task_id, sum(runs.priced_usd), status "
        "FROM runs JOIN tasks USING (task_id) WHERE len(models) = 1 AND tasks.cost_usd IS NOT NULL "
        "AND status IN ('succeeded', 'failed', 'harmful') GROUP BY ALL ORDER BY ALL"
    )
    of_model: defaultdict[str, defaultdict[str, list[TaskResult]]] = defaultdict(lambda: defaultdict(list))
    for model, group, _task, cost, status in rows:
        of_model[model][group].append(TaskResult(cost=float(cost), is_success=status == "succeeded"))
    return _on_common_tasks(of_model)


def _on_common_tasks(
    of_model: Mapping[str, Mapping[str, list[TaskResult]]],
) -> tuple[list[Contender], Mapping[str, str]]:
    if len(of_model) < 2:
        return [], {}
    models = sorted(of_model, key=lambda model: -len(of_model[model]))[:_CHART_ROWS]
    common = set.intersection(*(set(of_model[model]) for model in models))
    results: dict[str, dict[str, TaskResult]] = {model: {} for model in models}
    cluster_of: dict[str, str] = {}
    for group in sorted(common):
        # As many tasks of each model, so that what is compared is the same work.
        for place in range(min(len(of_model[model][group]) for model in models)):
            task = f"{group}#{place}"
            cluster_of[task] = group
            for model in models:
                results[model][task] = of_model[model][group][place]
    if len(common) < _FEWEST_PAIRS:
        return [], {}
    return [Contender(name=model, results=results[model]) for model in models], cluster_of


def _frontier_chart(contenders: Sequence[Contender], steps: Sequence[FrontierStep]) -> LineChart:
    on_frontier = {step.contender.name: step for step in steps}
    ordered = sorted(contenders, key=lambda contender: contender.cost)
    return LineChart(
        id="frontier",
        title="Cost and success of models on the same tasks",
        description="Success rate over cost per task, one point for each model.",
        x=Axis(title="Cost per task, USD", form="usd", is_log=True),
        y=Axis(title="Success rate", form="percent"),
        lines=(Line(name="models", points=tuple(_point(each, on_frontier) for each in ordered)),) if ordered else (),
        columns=columns("", "Cost per task", "Success rate", "Tasks", "Each further success costs"),
        empty="Fewer than two models worked on the same groups of tasks.",
    )


def _point(contender: Contender, on_frontier: Mapping[str, FrontierStep]) -> Point:
    tasks = len(contender.results)
    cost, rate = contender.cost / tasks, contender.successes / tasks
    step = on_frontier.get(contender.name)
    return Point(
        x=cost,
        y=rate,
        name=text(contender.name),
        is_quiet=step is None,
        cells=(amount(cost), share(rate), number(tasks), _further(step)),
    )


def _further(step: FrontierStep | None) -> Cell:
    if step is None:
        return text("beaten in both")
    if step.marginal_cost is None or step.marginal_cost.estimate is None:
        return text("the cheapest")
    found = step.marginal_cost.confidence_set
    low = "anything" if found.low is None else usd(found.low)
    high = "any more" if found.high is None else usd(found.high)
    return Cell(text=f"{usd(step.marginal_cost.estimate)} ({low} to {high})", value=step.marginal_cost.estimate)


def _simpson(analysis: Analysis) -> str:
    """A warning where two models change places once they are compared on one mix of groups; empty otherwise."""
    rows = analysis.rows(
        "SELECT models[1], runs.task_group, count(*), sum(CAST(runs.priced_usd AS DOUBLE)), "
        "count(*) FILTER (outcome = 'success') FROM runs WHERE len(models) = 1 AND runs.task_group IS NOT NULL "
        "AND cost_usd IS NOT NULL AND outcome NOT IN ('pending', 'unlabelled') GROUP BY ALL"
    )
    strata: defaultdict[str, defaultdict[str, list[tuple[float, float, float]]]] = defaultdict(
        lambda: defaultdict(list)
    )
    mix: defaultdict[str, float] = defaultdict(float)
    for model, group, runs, cost, successes in rows:
        strata[model]["all"].append((float(cost), float(successes), float(runs)))
        mix[group] += runs
    return "; ".join(_changes_places(strata, rows, mix))


def _changes_places(
    strata: Mapping[str, Mapping[str, list[tuple[float, float, float]]]],
    rows: Sequence[tuple[Any, ...]],
    mix: Mapping[str, float],
) -> Iterator[str]:
    """Pairs of models whose order by cost per success depends on the mix of groups."""
    by_group: defaultdict[str, dict[str, tuple[float, float, float]]] = defaultdict(dict)
    for model, group, runs, cost, successes in rows:
        by_group[model][group] = (float(cost), float(successes), float(runs))
    models = [model for model, each in strata.items() if sum(wins for _, wins, _ in each["all"])]
    for place, first in enumerate(models):
        for second in models[place + 1 :]:
            shared = by_group[first].keys() & by_group[second].keys()
            if len(shared) < _FEWEST_PAIRS:
                continue
            raw = [_raw(by_group[model]) for model in (first, second)]
            even = [_even(by_group[model], shared, mix) for model in (first, second)]
            if None not in even and (raw[0] - raw[1]) * ((even[0] or 0) - (even[1] or 0)) < 0:
                cheaper = first if raw[0] < raw[1] else second
                yield (
                    f"{cheaper} looks cheaper per success, and is dearer once both are compared on one mix of groups: "
                    "it worked on easier tasks (Simpson's paradox)"
                )


def _raw(groups: Mapping[str, tuple[float, float, float]]) -> float:
    wins = sum(successes for _, successes, _ in groups.values())
    return sum(cost for cost, _, _ in groups.values()) / wins


def _even(groups: Mapping[str, tuple[float, float, float]], shared: set[str], mix: Mapping[str, float]) -> float | None:
    weights = {group: mix[group] for group in shared}
    cost = sum(weight * groups[group][0] / groups[group][2] for group, weight in weights.items())
    wins = sum(weight * groups[group][1] / groups[group][2] for group, weight in weights.items())
    return cost / wins if wins else None
