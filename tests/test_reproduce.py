"""The published figures, by the script that prints them; what its parts do where no data are needed."""

from __future__ import annotations

import importlib
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = ROOT / "benchmarks"
DATA = Path(os.environ.get("TOKENOMICS_SHARED_DATA") or ROOT.parent / "shared" / "data")


@pytest.fixture(scope="module")
def reproduced() -> dict[str, Any]:
    if not DATA.is_dir():
        pytest.skip(f"{DATA} is absent")
    command = [sys.executable, str(BENCHMARKS / "reproduce.py"), "--data", str(DATA)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    finished = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=200)
    assert not finished.stderr, finished.stderr
    document: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    return document


@pytest.fixture
def leaderboard(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("reproduction.leaderboard")


@pytest.fixture
def who_and_when(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("reproduction.who_and_when")


def record(**changes: Any) -> dict[str, Any]:
    """A leaderboard entry that adds up: half of 500 tasks for a dollar each."""
    details = {f"t{number}": {"api_calls": 9, "cost": 1.0, "resolved": number < 250} for number in range(500)}
    return {"name": "m", "resolved": 50.0, "cost": 500.0, "per_instance_details": details} | changes


def objections_to(leaderboard: ModuleType, path: Path, entry: dict[str, Any]) -> list[str]:
    path.write_text(json.dumps([entry]), encoding="utf-8")
    found: list[str] = leaderboard.objections(leaderboard.entries(path)[0])
    return found


@pytest.mark.shared_data
def test_every_published_figure_that_can_be_checked_is_reproduced(reproduced: dict[str, Any]) -> None:
    assert reproduced["checks"]
    assert [check for check in reproduced["checks"] if not check["holds"]] == []


@pytest.mark.shared_data
@pytest.mark.parametrize(("cap", "lost"), [(22, 0), (20, 1), (16, 13), (8, 42)])
def test_call_caps_lose_the_published_successes(reproduced: dict[str, Any], cap: int, lost: int) -> None:
    assert reproduced["figures"]["tau_bench"][f"cap of {cap} calls: lost of 84"]["ours"] == lost


@pytest.mark.shared_data
@pytest.mark.parametrize(("cap", "saved"), [(22, 6.1), (20, 8.5), (16, 17.6), (8, 55.8)])
def test_call_caps_save_the_published_share(reproduced: dict[str, Any], cap: int, saved: float) -> None:
    if "o200k_base is not installed" in reproduced["bases"]["tau_bench"]:
        pytest.skip("the published shares are of o200k tokens: install bpe-openai")
    assert reproduced["figures"]["tau_bench"][f"cap of {cap} calls: % saved"]["ours"] == pytest.approx(saved, abs=0.05)


@pytest.mark.shared_data
def test_money_of_other_tokens_is_not_compared(reproduced: dict[str, Any]) -> None:
    is_exact = "not installed" not in reproduced["bases"]["tau_bench"]
    checked = {check["name"] for check in reproduced["checks"]}
    assert ("cap of 22 calls: % saved" in checked) is is_exact


@pytest.mark.shared_data
def test_two_thirds_of_resend_cost_follow_the_decisive_error(reproduced: dict[str, Any]) -> None:
    figures = reproduced["figures"]["who_and_when"]
    assert figures["mean % of resend cost after the decisive error"]["ours"] == pytest.approx(68, abs=0.5)
    assert figures["median % of resend cost after the decisive error"]["ours"] == pytest.approx(76, abs=0.5)


@pytest.mark.shared_data
def test_a_leaderboard_entry_that_contradicts_itself_is_flagged(leaderboard: ModuleType) -> None:
    path = DATA / leaderboard.FILE
    if not path.exists():
        pytest.skip(f"{path} is absent")
    flagged = {entry.name for entry in leaderboard.entries(path) if leaderboard.objections(entry)}
    # 64.93 % of 500 tasks is no number of tasks; of Gemini's, 239 are in the file.
    assert flagged == {"Claude 4 Sonnet (20250514)", "Gemini 3 Pro Preview (2025-11-18)"}


def test_an_absent_data_set_is_skipped_and_said_so(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCHMARKS / "reproduce.py"), "--data", str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    finished = subprocess.run(command, capture_output=True, text=True, env=environment, check=True, timeout=100)
    document = json.loads(finished.stdout.splitlines()[-1])
    assert document["skipped"] == ["tau_bench", "mini_swe", "leaderboard", "who_and_when"]
    assert list(document["figures"]) == ["planted"]


def test_an_entry_that_adds_up_is_not_flagged(leaderboard: ModuleType, tmp_path: Path) -> None:
    assert objections_to(leaderboard, tmp_path / "models.json", record()) == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"api_calls": 9, "cost": 0.0, "resolved": True}, "1 tasks resolved without a call or a cost"),
        ({"api_calls": 0, "cost": 1.0, "resolved": True}, "1 tasks resolved without a call or a cost"),
        ({"api_calls": 9, "cost": -1.0, "resolved": True}, "1 tasks with an impossible cost"),
        ({"api_calls": 9, "cost": math.nan, "resolved": True}, "1 tasks with an impossible cost"),
    ],
    ids=["no cost", "no call", "negative cost", "no number"],
)
def test_an_impossible_task_is_flagged(
    leaderboard: ModuleType, tmp_path: Path, change: dict[str, Any], sentence: str
) -> None:
    entry = record()
    entry["per_instance_details"]["t0"] = change
    assert objections_to(leaderboard, tmp_path / "models.json", entry) == [sentence]


def test_spend_without_any_success_is_flagged(leaderboard: ModuleType, tmp_path: Path) -> None:
    entry = record(resolved=0.0)
    for row in entry["per_instance_details"].values():
        row["resolved"] = False
    assert objections_to(leaderboard, tmp_path / "models.json", entry) == ["$500.00 spent and no task resolved"]


def test_missing_tasks_are_flagged(leaderboard: ModuleType, tmp_path: Path) -> None:
    entry = record()
    entry["per_instance_details"].pop("t0")
    assert "499 of 500 tasks" in objections_to(leaderboard, tmp_path / "models.json", entry)[0]


def test_resent_text_is_paid_again_by_each_later_step(who_and_when: ModuleType) -> None:
    # Steps of 1, 2 and 3 characters cost 1, 3 and 6; after the first come 9 of 10.
    assert who_and_when.share_after(0, [1, 2, 3]) == pytest.approx(0.9)


def test_nothing_has_no_share(who_and_when: ModuleType) -> None:
    assert who_and_when.share_after(0, [0, 0]) is None
