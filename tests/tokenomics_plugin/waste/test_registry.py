import logging
import sys
import tomllib
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from tokenomics_plugin.cells import Tier
from tokenomics_plugin.trajectory import Trajectory
from tokenomics_plugin.waste import ENTRY_POINT_GROUP, DuplicateRead, Finding, Need, find_detectors, scan
from tokenomics_plugin.waste.builtin import BUILT_IN
from trajectories import Script

_PYPROJECT = Path(__file__).parents[3] / "pyproject.toml"


class Everything:
    """A detector of somebody else's."""

    id = "X1"
    name = "everything"
    tier = Tier.B
    needs = frozenset({Need.HASHES})

    def find(self, trajectory: Trajectory) -> Iterator[Finding]:
        yield Finding(cause=self.id, tier=self.tier, spans=tuple(step.span_id for step in trajectory.steps))


class Broken(Everything):
    id = "X2"

    def find(self, trajectory: Trajectory) -> Iterator[Finding]:
        yield from super().find(trajectory)
        raise RuntimeError("out of order")


class Unbuildable(Everything):
    def __init__(self) -> None:
        raise RuntimeError("no licence")


class Nameless(Everything):
    id = ""


class Usurper(Everything):
    id = "D1"


_OURS = {cls().id: f"{cls.__module__}:{cls.__qualname__}" for cls in BUILT_IN}
Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Install a distribution with entry points, in the place of all that are installed."""
    module = sys.modules[__name__]
    monkeypatch.setitem(sys.modules, "somebody_else", module)

    def installed(**points: str) -> None:
        folder = tmp_path / "somebody_else-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: somebody-else\nVersion: 1.0\n", encoding="utf-8")
        lines = [f"[{ENTRY_POINT_GROUP}]", *(f"{name} = {value}" for name, value in points.items())]
        (folder / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")
        monkeypatch.setattr(sys, "path", [str(tmp_path)])

    return installed


def test_detectors_are_found_by_entry_point_in_the_order_of_their_numbers(install: Install) -> None:
    install(X1="somebody_else:Everything", **_OURS)

    detectors = find_detectors()

    assert [detector.id for detector in detectors.found] == [*_OURS, "X1"]
    assert detectors.problems == ()


@pytest.mark.parametrize(
    ("point", "message"),
    [
        ("somebody_else:Missing", "AttributeError"),
        ("a_module_that_is_absent:Detector", "ModuleNotFoundError"),
        ("somebody_else:Unbuildable", "RuntimeError: no licence"),
        ("somebody_else:Nameless", "a detector's id must be text that is not empty, got ''"),
        ("somebody_else:Path", "lacks id, tier, needs, find"),
        ("somebody_else:Usurper", "the id 'D1' is taken by 'exact duplicate read'"),
    ],
)
def test_a_broken_detector_is_reported_and_left_out(
    install: Install,
    caplog: pytest.LogCaptureFixture,
    point: str,
    message: str,
) -> None:
    install(A0=point, D1=_OURS["D1"])

    with caplog.at_level(logging.WARNING):
        detectors = find_detectors()

    assert [type(detector) for detector in detectors.found] == [DuplicateRead]
    (problem,) = detectors.problems
    assert problem.detector == "A0"
    assert message in problem.message
    assert message in caplog.text


def test_a_detector_that_was_built_with_options_takes_the_place_of_the_installed_one(install: Install) -> None:
    install(**_OURS)
    mine = DuplicateRead(polling=frozenset({"get_job_*"}))

    detectors = find_detectors(replace=[mine])

    assert [detector for detector in detectors.found if detector.id == "D1"] == [mine]


def test_a_detector_that_raises_is_reported_and_the_others_go_on() -> None:
    script = Script()
    script.turn("get", "order 7", "shipped")

    result = scan(script.trajectory(), [Broken(), Everything()])

    assert [finding.cause for finding in result.findings] == ["X1"]
    assert [(problem.detector, problem.message) for problem in result.problems] == [
        ("X2", "RuntimeError: out of order")
    ]


def test_the_built_in_detectors_say_what_they_are() -> None:
    built_in = [cls() for cls in BUILT_IN]

    assert len({detector.name for detector in built_in}) == len({detector.id for detector in built_in}) == 17
    assert all(detector.needs and isinstance(detector.tier, Tier) for detector in built_in)
    assert {"D6", "D7", "D8"}.isdisjoint(detector.id for detector in built_in)


def test_the_project_names_every_built_in_detector_as_an_entry_point() -> None:
    groups = tomllib.loads(_PYPROJECT.read_text(encoding="utf-8"))["project"]["entry-points"]
    if ENTRY_POINT_GROUP not in groups:
        pytest.skip(f"pyproject.toml has no group {ENTRY_POINT_GROUP} yet")

    assert groups[ENTRY_POINT_GROUP] == _OURS


def test_the_installed_project_offers_every_built_in_detector() -> None:
    installed = {entry.name: entry.value for entry in entry_points(group=ENTRY_POINT_GROUP)}
    if not installed:
        pytest.skip("installed before the entry points were added: install again")

    assert installed.items() >= _OURS.items()
