from __future__ import annotations

from pathlib import Path

from tokenomics_local_llm.evaluation.records import Records


def test_what_was_added_is_there_again(tmp_path: Path) -> None:
    path = tmp_path / "new" / "records.jsonl"
    Records(path, "a").add(("history", "ours"), {"kl": 0.25})

    again = Records(path, "a")

    assert again["history", "ours"] == {"kl": 0.25}
    assert ("history", "ours") not in Records(path, "b")


def test_the_line_after_one_that_was_cut_short_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    Records(path, "a").add(("x",), {"kl": 1})
    path.write_text(path.read_text(encoding="utf-8") + '{"study": "a", "of', encoding="utf-8")

    Records(path, "a").add(("y",), {"kl": 2})

    found = Records(path, "a")
    assert (found["x",], found["y",]) == ({"kl": 1}, {"kl": 2})


def test_without_a_file_records_stay_in_memory() -> None:
    records = Records(None, "a")

    records.add(("x",), {"kl": 1})

    assert ("x",) in records
