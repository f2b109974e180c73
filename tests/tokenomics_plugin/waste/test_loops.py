from typing import Any

import pytest

from tokenomics_plugin.cells import Tier
from tokenomics_plugin.trajectory import SideEffect, ToolCall
from tokenomics_plugin.waste import Finding, Loop
from trajectories import Script


def loops(script: Script, **declared: Any) -> list[Finding]:
    return list(Loop(**declared).find(script.trajectory()))


def rounds(script: Script, names: str, **said: Any) -> list[ToolCall]:
    return [script.turn(name, "same", f"result of {name}", **said)[1] for name in names]


@pytest.mark.parametrize(
    ("names", "period"),
    [("AAA", 1), ("ABAB", 2), ("ABABABAB", 2), ("ABCABC", 3), ("ABCDABCD", 4), ("ABCDABCDAB", 4)],
)
def test_all_but_the_first_round_of_a_loop_is_claimed(names: str, period: int) -> None:
    script = Script()
    tools = rounds(script, names)

    (finding,) = loops(script)

    assert finding.tier is Tier.A
    assert {tool.span_id for tool in tools[period:]} <= set(finding.spans)
    assert not {tool.span_id for tool in tools[:period]} & set(finding.spans)
    assert finding.evidence == tuple(tool.span_id for tool in tools[:period])


def test_the_model_calls_that_went_round_are_claimed_too() -> None:
    script = Script()
    turns = [script.turn(name, "same", f"result of {name}") for name in "ABAB"]

    (finding,) = loops(script)

    assert {asker.span_id for asker, _ in turns[2:]} <= set(finding.spans)


@pytest.mark.parametrize("names", ["AA", "ABA", "ABCAB", "ABCD", "AABB", "ABCDEABCDE"])
def test_what_has_not_come_round_twice_is_no_loop(names: str) -> None:
    script = Script()
    rounds(script, names)

    assert loops(script) == []


def test_results_that_differ_are_progress() -> None:
    script = Script()
    for page in range(5):
        script.turn("next_page", "", f"page {page}")

    assert loops(script) == []


def test_a_write_in_every_round_makes_it_no_loop() -> None:
    script = Script()
    for _ in range(3):
        script.turn("check", "lamp", "off")
        script.turn("toggle", "lamp", "ok", effect=SideEffect.WRITE)

    assert loops(script) == []


def test_a_loop_of_tools_of_unknown_effect_is_likely() -> None:
    script = Script()
    rounds(script, "ABAB", effect=SideEffect.UNKNOWN)

    assert [finding.tier for finding in loops(script)] == [Tier.B]


def test_a_loop_of_failures_is_provable_whatever_the_tools_would_do() -> None:
    script = Script()
    rounds(script, "ABAB", effect=SideEffect.WRITE, error_type="ValueError")

    assert [finding.tier for finding in loops(script)] == [Tier.A]


def test_reads_whose_results_are_unknown_are_likely_to_go_round() -> None:
    script = Script()
    rounds(script, "ABAB", result_hash=None)

    assert [finding.tier for finding in loops(script)] == [Tier.B]


def test_polling_can_be_declared() -> None:
    script = Script()
    rounds(script, "AAAA")

    assert len(loops(script)) == 1
    assert loops(script, polling=frozenset({"A"})) == []


def test_attempts_of_one_call_are_no_loop() -> None:
    script = Script()
    rounds(script, "A")
    rounds(script, "AAA", attempt_kind="tool_retry")

    assert loops(script) == []


def test_two_agents_that_do_the_same_once_go_round_in_no_circle() -> None:
    script = Script()
    for agent in ("one", "two", "three"):
        script.tool("A", "same", "result", agent=agent)

    assert loops(script) == []


def test_two_loops_are_two_findings() -> None:
    script = Script()
    rounds(script, "ABABxCDCDy")

    assert len(loops(script)) == 2


def test_writes_that_take_no_time_are_writes() -> None:
    script = Script()
    rounds(script, "AAAA", effect=SideEffect.WRITE, lasts_ms=0)

    assert loops(script) == []
