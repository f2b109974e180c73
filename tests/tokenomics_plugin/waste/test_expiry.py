from typing import Any

import pytest

from tokenomics_plugin.cells import Tier
from tokenomics_plugin.trajectory import SideEffect
from tokenomics_plugin.waste import BlockRange, ExpiredContextRent, Finding
from trajectories import Script


def expired(script: Script) -> list[Finding]:
    return list(ExpiredContextRent().find(script.trajectory()))


def reread(script: Script, **second: Any) -> None:
    script.turn("read", "a.py", "old")
    script.turn("edit", "a.py", "edited", effect=SideEffect.WRITE)
    said: dict[str, Any] = {"name": "read", "arguments": "a.py", "result": "new"}
    script.turn(**said | second)


def test_an_old_version_is_carried_for_nothing_beside_the_new_one() -> None:
    script = Script()
    reread(script)
    script.model("Compared.")
    later = script.model("Done.")

    (finding,) = expired(script)

    assert finding.tier is Tier.B
    assert finding.blocks == (BlockRange(call=later.span_id, start=3, stop=4),)


def test_the_first_call_that_has_both_may_compare_them() -> None:
    script = Script()
    reread(script)
    script.model("Compared.")

    assert expired(script) == []


@pytest.mark.parametrize(
    "second",
    [
        pytest.param({"result": "old"}, id="it did not change"),
        pytest.param({"arguments": "b.py"}, id="it is another file"),
        pytest.param({"error_type": "OSError"}, id="it could not be read again"),
        pytest.param({"agent": "another"}, id="another agent read it"),
        pytest.param({"result_hash": None}, id="its new content is unknown"),
    ],
)
def test_an_old_version_has_not_expired_if(second: dict[str, Any]) -> None:
    script = Script()
    reread(script, **second)
    script.model("Compared.")
    script.model("Done.")

    assert expired(script) == []


def test_an_old_version_that_was_cleared_costs_nothing() -> None:
    script = Script()
    reread(script)
    del script.conversation[3]
    script.model("Compared.")
    script.model("Done.")

    assert expired(script) == []


def test_results_that_differ_without_a_write_may_be_pages_of_one_list() -> None:
    script = Script()
    for page in range(3):
        script.turn("next_page", "", f"page {page}")
    script.model("Compared.")
    script.model("Done.")

    assert expired(script) == []
