from __future__ import annotations

from dataclasses import fields
from decimal import Decimal
from itertools import pairwise
from time import perf_counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenomics_plugin.credit import (
    Evidence,
    Flow,
    Game,
    Slice,
    SliceError,
    backward_slice,
    forward_slice,
    shapley,
)


def flow(*sources: str, to: str, evidence: Evidence = Evidence.VALUE) -> Flow:
    return Flow(sources=sources, target=to, evidence=evidence)


def context(*sources: str, to: str) -> list[Flow]:
    return [flow(source, to=to, evidence=Evidence.CONTEXT) for source in sources]


# A support agent: it looks up the user, reads an order by the id found there, searches the manual in vain, refunds
# the order and answers with the amount. Each call carries all that came before.
STEPS = ("question", "plan", "user", "order", "manual", "refund", "answer")
COSTS: dict[str, Decimal | None] = {
    step: Decimal(cents) / 100 for step, cents in zip(STEPS, (0, 2, 3, 4, 8, 2, 1), strict=True)
}
FLOWS = [
    flow("question", to="user"),
    flow("user", to="order", evidence=Evidence.VALUE),
    flow("order", to="refund"),
    flow("order", to="answer", evidence=Evidence.CITATION),
    flow("plan", to="refund", evidence=Evidence.CONTROL),
    *context("question", to="plan"),
    *context("question", "plan", "user", "order", "manual", "refund", to="answer"),
    *context("question", "plan", "user", "order", "manual", to="refund"),
]


def test_the_slice_is_a_band_between_evidence_and_context() -> None:
    found = backward_slice(STEPS, FLOWS, results=["answer", "refund"])
    assert found.must == {"question", "user", "order", "plan", "refund", "answer"}
    assert found.may == set(STEPS)
    cost = found.cost(COSTS)
    assert (cost.least, cost.most, cost.total) == (Decimal("0.12"), Decimal("0.20"), Decimal("0.20"))
    assert cost.share is not None
    assert (cost.share.low, cost.share.high) == pytest.approx((0.6, 1.0))


def test_successful_writes_count_as_results_of_their_own() -> None:
    only_answer = backward_slice(STEPS, FLOWS, results=["answer"])
    assert "refund" not in only_answer.must
    assert "plan" not in only_answer.must, "it chose the refund and nothing of the answer"


def test_context_of_what_was_not_used_is_not_followed() -> None:
    steps = ("a", "b", "unread", "answer")
    flows = [flow("a", to="b"), flow("b", to="answer"), *context("a", to="unread")]
    found = backward_slice(steps, flows, results=["answer"])
    assert found.must == found.may == {"a", "b", "answer"}


def test_either_of_two_sources_is_a_block_of_which_none_is_necessary() -> None:
    steps = ("search", "cache", "answer", "intro")
    flows = [flow("search", "cache", to="answer"), flow("intro", to="cache")]
    found = backward_slice(steps, flows, results=["answer"])
    assert found.must == {"answer"}
    assert found.either == {frozenset({"search", "cache"})}
    assert found.may == set(steps)


def test_a_block_is_settled_when_one_of_it_is_necessary_anyway() -> None:
    flows = [flow("search", "cache", to="answer"), flow("cache", to="answer", evidence=Evidence.CITATION)]
    found = backward_slice(("search", "cache", "answer"), flows, results=["answer"])
    assert found.must == {"cache", "answer"}
    assert found.either == frozenset()


def test_loops_through_a_state_channel_end() -> None:
    flows = [
        flow("model", to="tool", evidence=Evidence.CONTROL),
        flow("tool", to="model", evidence=Evidence.CHANNEL),
        flow("model", to="answer"),
    ]
    assert backward_slice(("model", "tool", "answer"), flows, results=["answer"]).must == {"model", "tool", "answer"}


def test_the_forward_slice_of_an_error_is_what_rests_on_it() -> None:
    found = forward_slice(STEPS, FLOWS, causes=["order"])
    assert found.must == {"order", "refund", "answer"}
    assert found.may == {"order", "refund", "answer"}
    wider = forward_slice(STEPS, FLOWS, causes=["manual"])
    assert wider.must == {"manual"}
    assert wider.may == {"manual", "refund", "answer"}


def test_what_had_another_source_may_rest_on_an_error() -> None:
    found = forward_slice(("bad", "good", "answer"), [flow("bad", "good", to="answer")], causes=["bad"])
    assert found.must == {"bad"}
    assert found.may == {"bad", "answer"}


def test_all_in_the_slice_have_one_value_per_dollar() -> None:
    found = backward_slice(STEPS, FLOWS, results=["answer", "refund"])
    density = found.value_per_dollar(Decimal("3.00"), COSTS)
    assert density is not None
    assert (density.low, density.high) == pytest.approx((15.0, 25.0))


def test_necessary_steps_of_one_trace_are_equals_and_the_slice_offers_no_ranking() -> None:
    # The trace's game: worth V with all that is necessary, else nothing.
    found = backward_slice(STEPS, FLOWS, results=["answer", "refund"])
    shares = shapley(Game.of(STEPS, lambda on: 3.0 * (found.must <= on)))
    assert {step: share for step, share in shares.items() if step in found.must} == pytest.approx(
        dict.fromkeys(found.must, 3.0 / len(found.must))
    )
    assert shares["manual"] == 0
    assert {field.name for field in fields(Slice)} == {"must", "may", "either"}, "sets, without order or number"


def test_an_unknown_cost_leaves_the_share_unknown() -> None:
    found = backward_slice(STEPS, FLOWS, results=["answer"])
    cost = found.cost(COSTS | {"manual": None})
    assert cost.unpriced == 1
    assert cost.total == Decimal("0.12")
    assert cost.share is None
    assert found.value_per_dollar(Decimal(1), COSTS | {"manual": None}) is None


def test_a_run_that_cost_nothing_has_no_share_and_no_density() -> None:
    found = backward_slice(["answer"], [], results=["answer"])
    assert found.cost({"answer": Decimal(0)}).share is None
    assert found.value_per_dollar(Decimal(1), {"answer": Decimal(0)}) is None


def test_a_necessary_part_that_cost_nothing_leaves_the_density_without_a_limit() -> None:
    found = backward_slice(["a", "answer"], context("a", to="answer"), results=["answer"])
    density = found.value_per_dollar(Decimal(1), {"a": Decimal(2), "answer": Decimal(0)})
    assert density is not None
    assert (density.low, density.high) == (0.5, None)


@pytest.mark.parametrize(
    ("flows", "results", "rule"),
    [
        ([flow("ghost", to="answer")], ["answer"], r"\['ghost'\] are not steps"),
        ([flow("plan", to="ghost")], ["answer"], r"\['ghost'\] are not steps"),
        ([], ["ghost"], r"\['ghost'\] are not steps"),
        ([flow(to="answer")], ["answer"], "needs a source"),
    ],
    ids=["source", "target", "result", "no source"],
)
def test_a_graph_of_unknown_steps_is_refused(flows: list[Flow], results: list[str], rule: str) -> None:
    with pytest.raises(SliceError, match=rule):
        backward_slice(STEPS, flows, results=results)


def test_costs_must_cover_the_slice_and_value_must_not_be_negative() -> None:
    found = backward_slice(STEPS, FLOWS, results=["answer"])
    with pytest.raises(SliceError, match="have no cost"):
        found.cost({"answer": Decimal(1)})
    with pytest.raises(SliceError, match="must not be negative"):
        found.value_per_dollar(Decimal(-1), COSTS)


names = st.sampled_from("abcdefg")
graphs = st.lists(
    st.builds(
        Flow,
        sources=st.lists(names, min_size=1, max_size=2, unique=True).map(tuple),
        target=names,
        evidence=st.sampled_from(Evidence),
    ),
    max_size=25,
)


@given(graphs, st.sets(names, min_size=1, max_size=2))
def test_what_must_is_among_what_may_and_results_are_in_both(flows: list[Flow], results: set[str]) -> None:
    found = backward_slice("abcdefg", flows, results=results)
    assert results <= found.must <= found.may
    for block in found.either:
        assert block <= found.may
        assert not block & found.must


@given(graphs, graphs, st.sets(names, min_size=1, max_size=2))
def test_more_context_never_moves_what_must(flows: list[Flow], more: list[Flow], results: set[str]) -> None:
    contexts = [Flow(sources=extra.sources, target=extra.target, evidence=Evidence.CONTEXT) for extra in more]
    found, wider = (backward_slice("abcdefg", edges, results=results) for edges in (flows, flows + contexts))
    assert wider.must == found.must
    assert wider.may >= found.may


@given(graphs, names, names)
def test_forward_and_backward_agree_on_who_reaches_whom(flows: list[Flow], cause: str, result: str) -> None:
    ahead, behind = forward_slice("abcdefg", flows, causes=[cause]), backward_slice("abcdefg", flows, results=[result])
    assert (result in ahead.may) == (cause in behind.may)
    assert (result in ahead.must) == (cause in behind.must)


def test_time_grows_with_steps_and_flows() -> None:
    steps = [str(number) for number in range(100_000)]
    flows = [flow(a, to=b) for a, b in pairwise(steps)]
    start = perf_counter()
    assert len(backward_slice(steps, flows, results=[steps[-1]]).must) == 100_000
    assert perf_counter() - start < 5
