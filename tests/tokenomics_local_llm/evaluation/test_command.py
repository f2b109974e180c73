from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result
from torch import Tensor

from tokenomics_local_llm.commands import main
from tokenomics_local_llm.evaluation import HistoryScore, compare, study

SOME = ["--arm", "naive 2-bit", "--arm", "ours", "--arm", "KIVI"]


def run(folder: Path, texts: list[Path], output: Path, *more: str) -> Result:
    given = [part for path in texts for part in ("--text", str(path))]
    calibration = ["--calibration", str(texts[0]), "--calibration-tokens", "2048"]
    return CliRunner().invoke(
        main, ["eval", str(folder), *given, *calibration, "--context", "640", "-o", str(output), *more]
    )


def result(output: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((output / "result.json").read_text(encoding="utf-8"))
    return read


def test_eval_compares_caches_by_every_measure(folder: Path, texts: list[Path], tmp_path: Path) -> None:
    output = tmp_path / "out"

    done = run(folder, texts, output, *SOME)

    assert done.exit_code == 0, done.output
    arms = result(output)["arms"]
    assert list(arms) == ["naive 2-bit", "ours", "KIVI"]
    assert all(len(arm["attention_kl_by_layer"]) == 2 for arm in arms.values())
    assert sum(arms["ours"]["attention_kl_by_layer"]) < sum(arms["naive 2-bit"]["attention_kl_by_layer"])
    assert 0 < arms["ours"]["kl"] < arms["naive 2-bit"]["kl"]
    assert arms["ours"]["needle_log_probability"] < 0
    assert set(result(output)["full_cache"]["perplexity"]) == {"fox.txt", "jugs.txt"}
    assert "ours" in done.output


def test_plot_has_a_dot_and_a_name_for_each_cache(folder: Path, texts: list[Path], tmp_path: Path) -> None:
    run(folder, texts, tmp_path / "out", *SOME, "--measure", "history")

    page = ElementTree.parse(tmp_path / "out" / "quality.svg")

    names = [element.text or "" for element in page.iter("{http://www.w3.org/2000/svg}text")]
    assert len(list(page.iter("{http://www.w3.org/2000/svg}circle"))) == 3
    for arm in ("naive 2-bit", "ours", "KIVI"):
        assert any(name.startswith(f"{arm}: ") for name in names)


def test_eval_goes_on_where_it_was_killed(
    folder: Path, texts: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    run(folder, texts, output, *SOME, "--measure", "history")
    whole = result(output)
    records = output / "records.jsonl"
    lines = records.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 6
    records.write_text("\n".join(lines[:4]) + '\n{"study": "cut sho', encoding="utf-8")
    measured = []

    def measure(*given: Tensor) -> HistoryScore:
        measured.append(given)
        return compare(*given)

    monkeypatch.setattr(study, "compare", measure)

    done = run(folder, texts, output, *SOME, "--measure", "history")

    assert done.exit_code == 0, done.output
    assert len(measured) == 2
    assert result(output) == whole


def test_records_of_another_study_are_passed_over(folder: Path, texts: list[Path], tmp_path: Path) -> None:
    output = tmp_path / "out"
    run(folder, texts[:1], output, "--arm", "ours", "--measure", "history")
    first = result(output)["arms"]["ours"]["kl"]

    run(folder, texts[1:], output, "--arm", "ours", "--measure", "history")

    assert result(output)["arms"]["ours"]["kl"] != first


def test_cache_that_is_none_is_refused(folder: Path, texts: list[Path], tmp_path: Path) -> None:
    done = run(folder, texts, tmp_path / "out", "--arm", "1-bit")

    assert done.exit_code == 2
    assert "no cache is called 1-bit: there are naive 2-bit, Hadamard" in done.output
