from concurrent.futures import ThreadPoolExecutor

import pytest

from tokenomics_plugin.cells import Cause, CellRef, MissedCache, Part, Tier
from tokenomics_plugin.trajectory import Trajectory
from tokenomics_plugin.waste import BlockRange, Finding, flags_of, scan
from tokenomics_plugin.waste.builtin import BUILT_IN
from trajectories import INJECTIONS, Script, cells_of


@pytest.mark.parametrize(("start", "stop"), [(-1, 1), (2, 2), (3, 2)])
def test_a_range_of_blocks_is_not_empty(start: int, stop: int) -> None:
    with pytest.raises(ValueError, match=f"start={start} and stop={stop}"):
        BlockRange(call="a" * 16, start=start, stop=stop)


def test_findings_flag_calls_outputs_and_blocks() -> None:
    one, two = Cause("D1", Tier.A), Cause("D4", Tier.B)

    flags = flags_of(
        [
            Finding(cause="D1", tier=Tier.A, spans=("a",), blocks=(BlockRange(call="b", start=1, stop=3),)),
            Finding(cause="D4", tier=Tier.B, outputs=("c",), blocks=(BlockRange(call="b", start=2, stop=3),)),
        ]
    )

    assert flags.cells == {
        CellRef("a", Part.CALL): {one},
        CellRef("b", 1): {one},
        CellRef("b", 2): {one, two},
        CellRef("c", Part.OUTPUT): {two},
    }


def test_price_gaps_flag_a_number_of_tokens_and_no_cell() -> None:
    gap = (BlockRange(call="a", start=0, stop=2),)

    flags = flags_of(
        [
            Finding(cause="D11", tier=Tier.B, blocks=gap, is_price_gap=True, tokens=500),
            Finding(cause="D12", tier=Tier.A, blocks=gap, is_price_gap=True, tokens=800),
            Finding(cause="D12", tier=Tier.A, blocks=(BlockRange(call="b", start=0, stop=1),), is_price_gap=True),
        ]
    )

    assert flags.cells == {}
    assert flags.missed_caches == {"a": MissedCache(800, frozenset({Cause("D11", Tier.B), Cause("D12", Tier.A)}))}


def test_detectors_may_be_asked_from_several_threads() -> None:
    def trajectory(kind: str) -> Trajectory:
        script = Script()
        INJECTIONS[kind](script)
        return script.trajectory()

    detectors = [cls() for cls in BUILT_IN]
    runs = [trajectory(kind) for kind in sorted(INJECTIONS)] * 5

    with ThreadPoolExecutor(4) as pool:
        beside = list(pool.map(lambda run: cells_of(scan(run, detectors).findings), runs))

    assert beside == [cells_of(scan(run, detectors).findings) for run in runs]
