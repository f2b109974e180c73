"""Which block is how many tokens, and which of them the cache served."""

from __future__ import annotations

from typing import Any

from tokenomics_plugin.cells import Part, TokenClass, cells_of
from tokenomics_plugin.pricing import PriceBook
from tokenomics_plugin.trajectory import ModelCall, Trajectory


def input_cells(prices: PriceBook, *calls: ModelCall) -> list[dict[tuple[int | Part, str], int]]:
    """Tokens by place and class, call by call."""
    found: dict[str, dict[tuple[int | Part, str], int]] = {call.span_id: {} for call in calls}
    for cell in cells_of(Trajectory(trace_id="t", steps=calls), prices):
        if cell.place is not Part.OUTPUT:
            found[cell.call.span_id][cell.place, cell.token_class.value] = cell.tokens
    return list(found.values())


def test_what_the_provider_counted_beyond_reported_blocks_is_the_template(make: Any, prices: PriceBook) -> None:
    context = [make.block("a", tokens=30), make.block("b", tokens=50)]
    [cells] = input_cells(prices, make.call("s", context, counts=(100, 0, 0, 0, 0)))
    assert cells == {(Part.TEMPLATE, "in_fresh"): 20, (0, "in_fresh"): 30, (1, "in_fresh"): 50}


def test_blocks_without_reported_tokens_share_by_size(make: Any, prices: PriceBook) -> None:
    context = [make.block("a", size=100), make.block("b", size=300)]
    [cells] = input_cells(prices, make.call("s", context, counts=(101, 0, 0, 0, 0)))
    assert cells == {(0, "in_fresh"): 25, (1, "in_fresh"): 76}


def test_a_new_block_is_what_the_input_grew_by(make: Any, prices: PriceBook) -> None:
    context = [make.block("a", tokens=30)]
    answer = make.block("b", "assistant", tokens=12, producer="s0")
    result = make.block("c", "tool", size=5000, producer="t0")
    first = make.call("s0", context, counts=(50, 0, 0, 12, 0))
    second = make.call("s1", [*context, answer, result], counts=(112, 0, 0, 0, 0))
    assert input_cells(prices, first, second)[1] == {
        (Part.TEMPLATE, "in_fresh"): 20,
        (0, "in_fresh"): 30,
        (1, "in_fresh"): 12,
        (2, "in_fresh"): 50,
    }


def test_a_first_call_leaves_the_template_what_its_blocks_are_too_short_for(make: Any, prices: PriceBook) -> None:
    context = [make.block("a", "system", size=400)]
    answer = make.block("b", "assistant", size=40, tokens=10, producer="s0")  # four bytes a token
    first = make.call("s0", context, counts=(600, 0, 0, 10, 0))
    second = make.call("s1", [*context, answer], counts=(610, 0, 0, 0, 0))
    assert input_cells(prices, first, second)[0] == {(Part.TEMPLATE, "in_fresh"): 500, (0, "in_fresh"): 100}


def test_estimates_shrink_to_what_was_counted(make: Any, prices: PriceBook) -> None:
    context = [make.block("a", tokens=30), make.block("b", tokens=10)]
    [cells] = input_cells(prices, make.call("s", context, counts=(20, 0, 0, 0, 0)))
    assert cells == {(0, "in_fresh"): 15, (1, "in_fresh"): 5}


def test_the_cache_serves_the_template_and_then_the_first_blocks(make: Any, prices: PriceBook) -> None:
    context = [make.block("a", tokens=30), make.block("b", tokens=50), make.block("c", tokens=10)]
    [cells] = input_cells(prices, make.call("s", context, counts=(25, 20, 55, 0, 0)))
    assert cells == {
        (Part.TEMPLATE, "cache_read"): 10,
        (0, "cache_read"): 30,
        (1, "cache_read"): 15,
        (1, "cache_write"): 20,
        (1, "in_fresh"): 15,
        (2, "in_fresh"): 10,
    }


def test_a_call_that_says_nothing_of_its_context_is_one_unknown_block(make: Any, prices: PriceBook) -> None:
    [cells] = input_cells(prices, make.call("s", None, counts=(25, 0, 55, 0, 0)))
    assert cells == {(0, "cache_read"): 55, (0, "in_fresh"): 25}


def test_a_block_is_as_long_in_a_rewritten_context_as_it_was_found_to_be(make: Any, prices: PriceBook) -> None:
    context = [make.block("a", "system", tokens=30), make.block("b", tokens=20)]
    result = make.block("c", "tool", size=400, producer="t0")
    calls = [
        make.call("s0", context, counts=(60, 0, 0, 0, 0)),
        make.call("s1", [*context, result], counts=(160, 0, 0, 0, 0)),
        make.call("s2", [result, make.block("d", tokens=7)], counts=(120, 0, 0, 0, 0)),
    ]
    assert input_cells(prices, *calls)[2] == {(Part.TEMPLATE, "in_fresh"): 13, (0, "in_fresh"): 100, (1, "in_fresh"): 7}


def test_hidden_reasoning_is_a_class_of_the_output(make: Any, prices: PriceBook) -> None:
    call = make.call("s", None, counts=(0, 0, 0, 8, 5))
    cells = list(cells_of(Trajectory(trace_id="t", steps=(call,)), prices))
    assert [(cell.place, cell.token_class, cell.tokens) for cell in cells] == [
        (Part.OUTPUT, TokenClass.OUT_VISIBLE, 8),
        (Part.OUTPUT, TokenClass.REASONING, 5),
    ]
