from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenomics_plugin.cells import CellLedger, CellSummary
from tokenomics_plugin.pricing import PriceBook
from tokenomics_plugin.trajectory import ModelCall, Step, ToolCall, Trajectory

MILLION = Decimal(10**6)


def folded(prices: PriceBook, *steps: Step, top: int = 50) -> CellSummary:
    ledger = CellLedger(prices, top_blocks=top)
    ledger.add(Trajectory(trace_id="t", steps=steps))
    return ledger.summary()


def conversation(make: Any, *, system: int, user: int, results: list[int]) -> list[ModelCall]:
    """An agent whose cache is perfect: each call reads all that the one before sent, and writes what is new."""
    context = [make.block("s", "system", tokens=system), make.block("u", tokens=user)]
    calls, sent = [], 0
    for turn, size in enumerate([*results, 0]):
        total = sum(block.tokens for block in context)
        calls.append(make.call(f"s{turn}", context, counts=(0, total - sent, sent, 0, 0)))
        context, sent = [*context, make.block(f"r{turn}", "tool", tokens=size, producer=f"t{turn}")], total
    return calls


@given(system=st.integers(0, 5000), user=st.integers(0, 900), results=st.lists(st.integers(0, 3000), max_size=12))
def test_under_a_perfect_cache_a_block_costs_one_write_and_a_read_for_each_call_after(
    make: Any, prices: PriceBook, system: int, user: int, results: list[int]
) -> None:
    calls = conversation(make, system=system, user=user, results=results)
    summary = folded(prices, *calls)
    lives = {block.hash: block for block in summary.top_blocks}
    for turn, size in [(0, system), *enumerate(results, start=1)]:
        block = lives["k:s" if turn == 0 else f"k:r{turn - 1}"]
        sent = len(calls) - turn
        assert block.carried == sent
        assert block.cost.first_usd == size * Decimal(4) / MILLION
        assert block.cost.rent_usd == size * (sent - 1) * Decimal(1) / MILLION


def test_the_whole_input_grows_with_the_square_of_the_turns(make: Any, prices: PriceBook) -> None:
    system, user, result, turns = 100, 0, 30, 1000
    calls = conversation(make, system=system, user=user, results=[result] * (turns - 1))
    summary = folded(prices, *calls)
    assert summary.total.tokens == turns * system + result * turns * (turns - 1) // 2


def test_the_life_of_an_answer_begins_with_making_it(make: Any, prices: PriceBook) -> None:
    context = [make.block("a", tokens=30)]
    answer = make.block("b", "assistant", tokens=12, producer="s0")
    calls = [
        make.call("s0", context, counts=(30, 0, 0, 12, 3), answer="b"),
        make.call("s1", [*context, answer], counts=(42, 0, 0, 0, 0)),
        make.call("s2", [*context, answer], counts=(12, 0, 30, 0, 0)),
    ]
    cost = next(block.cost for block in folded(prices, *calls).top_blocks if block.hash == "k:b")
    assert (cost.generation_usd, cost.first_usd, cost.rent_usd) == (180 / MILLION, 36 / MILLION, 36 / MILLION)


@pytest.mark.parametrize("producer", ["t0", None], ids=["named", "unknown"])
def test_rent_is_summed_up_by_the_tool_whose_result_is_carried(
    make: Any, prices: PriceBook, producer: str | None
) -> None:
    context = [make.block("a", tokens=30), make.block("b", "tool", tokens=10, producer=producer)]
    calls = [make.call(f"s{number}", context, counts=(40, 0, 0, 0, 0)) for number in range(3)]
    tools = folded(prices, ToolCall(span_id="t0", tool="search"), *calls).tools
    life = tools["search" if producer else None]
    assert (life.first_usd, life.rent_usd) == (30 / MILLION, 60 / MILLION)


def test_the_same_text_of_two_spans_is_two_blocks(make: Any, prices: PriceBook) -> None:
    context = [make.block("r", "tool", tokens=10, producer="t0"), make.block("r", "tool", tokens=10, producer="t1")]
    summary = folded(prices, make.call("s0", context, counts=(20, 0, 0, 0, 0)))
    assert {block.producer: block.cost.first_usd for block in summary.top_blocks} == {
        "t0": 30 / MILLION,
        "t1": 30 / MILLION,
    }


def test_what_another_lineage_sends_again_is_rent(make: Any, prices: PriceBook) -> None:
    request = make.block("u", tokens=10)
    first = make.call("s0", [make.block("p", "system", tokens=5), request], counts=(15, 0, 0, 0, 0))
    second = make.call("s1", [make.block("q", "system", tokens=5), request], counts=(15, 0, 0, 0, 0))
    cost = next(block.cost for block in folded(prices, first, second).top_blocks if block.hash == "k:u")
    assert (cost.first_usd, cost.rent_usd) == (30 / MILLION, 30 / MILLION)


def test_only_the_dearest_blocks_are_kept(make: Any, prices: PriceBook) -> None:
    context = [make.block(f"b{size}", tokens=size) for size in range(1, 40)]
    call = make.call("s0", context, counts=(sum(range(1, 40)), 0, 0, 0, 0))
    assert [block.tokens for block in folded(prices, call, top=3).top_blocks] == [39, 38, 37]
    assert folded(prices, call, top=0).top_blocks == ()


def test_memory_does_not_grow_with_the_number_of_traces(make: Any, prices: PriceBook) -> None:
    ledger = CellLedger(prices, top_blocks=5)
    sizes = set()
    for number in range(40):
        context = [make.block(f"b{number}", tokens=30), make.block(f"c{number}", "tool", tokens=9)]
        ledger.add(Trajectory(trace_id=f"t{number}", steps=(make.call("s", context, counts=(40, 0, 0, 9, 0)),)))
        summary = ledger.summary()
        sizes.add((len(summary.groups), len(summary.causes), len(summary.roles), len(summary.tools)))
    assert len(sizes) == 1
    assert len(summary.top_blocks) == 5
