"""The examples run, and say what they promise."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.mark.slow
@pytest.mark.timeout(600)  # a real model, on whatever else the machine does
def test_the_quickstart_reports_what_it_counted_itself(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / "quickstart.py", "3"], cwd=tmp_path, capture_output=True, text=True, timeout=580
    )

    assert done.returncode == 0, done.stderr
    assert "3 tasks, 3 traces" in done.stdout
    assert done.stdout.count("agree") == 6
    assert "Later attempts, tools: 1 tool_retry." in done.stdout
    assert "\nRepeats\n  " in done.stdout
    assert (tmp_path / "report.html").stat().st_size > 0
