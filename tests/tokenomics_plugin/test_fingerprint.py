from __future__ import annotations

import hmac
import json
import math
import pickle
import random
from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum, StrEnum
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenomics_plugin.fingerprint import SECRET_VARIABLE, Fingerprinter, FingerprintKeys, canonical

_DAY_NS = 86_400 * 10**9
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=20,
)


class _Color(Enum):
    RED = 1
    BLUE = 2


class _Level(StrEnum):
    HIGH = "high"


class _Point(NamedTuple):
    x: int
    y: int


@dataclass
class _Order:
    number: int
    lines: list[str]


@dataclass(slots=True)
class _Slotted:
    number: int


class _Hostile:
    """Fails the test when anything of it is called."""

    def _refuse(self, *_: Any) -> Any:
        raise AssertionError("code of a foreign class was called")

    __repr__ = __str__ = __eq__ = __iter__ = __len__ = __bool__ = __getattr__ = _refuse


class _HostileDict(dict[str, Any]):
    def items(self) -> Any:
        raise AssertionError("code of a foreign class was called")

    def __iter__(self) -> Iterator[str]:
        raise AssertionError("code of a foreign class was called")


class _HostileList(list[Any]):
    def __iter__(self) -> Iterator[Any]:
        raise AssertionError("code of a foreign class was called")


class _HostileNumber(float):
    def __repr__(self) -> str:
        raise AssertionError("code of a foreign class was called")


class _HostileCount(int):
    def __repr__(self) -> str:
        raise AssertionError("code of a foreign class was called")


class _HostileText(str):
    __slots__ = ()

    def __str__(self) -> str:
        raise AssertionError("code of a foreign class was called")

    def encode(self, *_: Any, **__: Any) -> bytes:
        raise AssertionError("code of a foreign class was called")


# Keys and fingerprints


@given(st.binary(min_size=1, max_size=64), st.lists(st.text(), max_size=4))
def test_a_fingerprint_is_the_hmac_of_the_framed_parts_cut_to_64_bits(key: bytes, parts: list[str]) -> None:
    encoded = [part.encode("utf-8", "surrogatepass") for part in parts]
    framed = b"".join(len(part).to_bytes(8, "big") + part for part in encoded)
    fingerprinter = Fingerprinter(key)
    assert fingerprinter.of(*parts) == f"{fingerprinter.key_id}:{hmac.digest(key, framed, 'sha256')[:8].hex()}"


@given(st.lists(st.text(max_size=3), max_size=4), st.lists(st.text(max_size=3), max_size=4))
def test_parts_are_told_apart_whatever_they_add_up_to(left: list[str], right: list[str]) -> None:
    fingerprinter = FingerprintKeys(b"secret").current()
    assert (fingerprinter.of(*left) == fingerprinter.of(*right)) == (left == right)


def test_text_counts_as_its_utf8_bytes_and_a_lone_surrogate_is_text_too() -> None:
    fingerprinter = FingerprintKeys(b"secret").current()
    assert fingerprinter.of("naïve") == fingerprinter.of("naïve".encode())
    assert fingerprinter.of("\ud800") != fingerprinter.of("?")


def test_text_is_not_normalised() -> None:
    fingerprinter = FingerprintKeys(b"secret").current()
    assert len({fingerprinter.of(text) for text in ("é", "e\u0301", "é ", "É")}) == 4


def test_what_cannot_be_compared_equals_nothing_but_names_its_key() -> None:
    fingerprinter = FingerprintKeys(b"secret").current()
    first, second = fingerprinter.unlike_any(), fingerprinter.unlike_any()
    assert first != second
    assert first.startswith(fingerprinter.key_id + ":")
    assert len(first) == len(fingerprinter.of("x"))


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(FingerprintKeys(b"other"), id="another secret"),
        pytest.param(FingerprintKeys(b"secret", tenant="b"), id="another tenant"),
        pytest.param(FingerprintKeys(b"secret", rotation_days=7), id="another rotation"),
        pytest.param(FingerprintKeys(), id="a secret of the process"),
    ],
)
def test_keys_differ_and_say_so(other: FingerprintKeys) -> None:
    keys = FingerprintKeys(b"secret")
    assert keys.current(0).key_id != other.current(0).key_id
    assert keys.current(0).of("x").split(":")[1] != other.current(0).of("x").split(":")[1]


def test_the_same_secret_tenant_and_period_give_the_same_fingerprints_in_another_process() -> None:
    first, second = (FingerprintKeys(b"secret", tenant="a").current(5 * _DAY_NS).of("x") for _ in range(2))
    # Pinned: stored fingerprints must go on comparing after an upgrade.
    assert first == second == "6034f825:eb4009550b6181d9"


def test_two_processes_without_a_secret_cannot_be_compared() -> None:
    assert FingerprintKeys().current(0).of("x") != FingerprintKeys().current(0).of("x")


def test_the_key_changes_at_the_end_of_a_period_and_a_fingerprinter_keeps_its_own() -> None:
    keys = FingerprintKeys(b"secret", rotation_days=30)
    first = keys.current(0)
    before = first.of("x")
    assert keys.current(30 * _DAY_NS - 1) is first
    assert keys.current(30 * _DAY_NS).key_id != first.key_id
    assert first.of("x") == before
    assert keys.current(0).of("x") == before


def test_now_is_the_default_period() -> None:
    keys = FingerprintKeys(b"secret", rotation_days=10_000)
    assert keys.current() is keys.current()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(lambda: FingerprintKeys(b""), "secret is empty", id="empty secret"),
        pytest.param(lambda: FingerprintKeys(rotation_days=0), "at least 1, got 0", id="no rotation"),
        pytest.param(lambda: Fingerprinter(b""), "1 to 64 bytes, got 0", id="empty key"),
        pytest.param(lambda: Fingerprinter(bytes(65)), "1 to 64 bytes, got 65", id="long key"),
    ],
)
def test_what_makes_no_key_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_the_environment_gives_the_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECRET_VARIABLE, "secret")
    assert FingerprintKeys.from_environment(tenant="a").current(0).of("x") == (
        FingerprintKeys(b"secret", tenant="a").current(0).of("x")
    )


def test_without_the_variable_the_secret_is_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SECRET_VARIABLE, raising=False)
    assert FingerprintKeys.from_environment().current(0).key_id != FingerprintKeys.from_environment().current(0).key_id


def test_an_empty_variable_is_an_error_and_not_a_random_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECRET_VARIABLE, "")
    with pytest.raises(ValueError, match=f"{SECRET_VARIABLE} is set and empty"):
        FingerprintKeys.from_environment()


def test_neither_secret_nor_key_shows_or_can_be_pickled() -> None:
    keys = FingerprintKeys(b"top-secret", tenant="a")
    fingerprinter = keys.current(0)
    assert repr(keys) == "FingerprintKeys(tenant='a', rotation_days=30)"
    assert repr(fingerprinter) == f"Fingerprinter(key_id={fingerprinter.key_id!r})"
    for holder in (keys, fingerprinter):
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(holder)


# Canonical bytes


@given(_JSON, _JSON)
def test_canonical_bytes_are_equal_for_equal_json_and_for_no_other(left: Any, right: Any) -> None:
    same = json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True)
    assert (canonical(left) == canonical(right)) == same
    assert canonical(left) == canonical(json.loads(json.dumps(left)))


@given(st.dictionaries(st.text() | st.integers() | st.none() | st.booleans(), st.integers()), st.randoms())
def test_the_order_in_which_a_dict_was_filled_does_not_matter(value: dict[Any, int], order: random.Random) -> None:
    items = list(value.items())
    order.shuffle(items)
    assert canonical(dict(items)) == canonical(value) is not None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param([1, "a"], (1, "a"), id="list and tuple"),
        pytest.param({"a": 1}, OrderedDict(a=1), id="dict and ordered dict"),
        pytest.param({"a": 1}, defaultdict(int, a=1), id="dict and default dict"),
        pytest.param("high", _Level.HIGH, id="text and an enum of text"),
        pytest.param([1, 2], _Point(1, 2), id="list and named tuple"),
        pytest.param({3, 1, 2}, frozenset({1, 2, 3}), id="set and frozen set"),
        pytest.param(b"ab", bytearray(b"ab"), id="bytes and bytearray"),
    ],
)
def test_these_are_the_same_content(one: Any, other: Any) -> None:
    assert canonical(one) == canonical(other) is not None


def test_these_are_all_different_content() -> None:
    values: list[Any] = [
        *(None, True, False, 0, 1, 1.0, "", "1", b"1", [], {}, set(), "n", [None], [[]], {"": None}, math.nan),
        *(["a", "b"], ["ab"], {"a": "b"}, [["a", "b"]], {1: 2}, {"1": 2}, _Color.RED, _Color.BLUE, "RED"),
        *(date(2026, 1, 1), datetime(2026, 1, 1), datetime(2026, 1, 1, tzinfo=UTC), timedelta(1), "2026-01-01"),
        *(Decimal("1.0"), Decimal("1.00"), UUID(int=1), _Order(1, ["a"]), _Order(1, ["b"]), _Slotted(1), _Slotted(2)),
    ]
    assert len({canonical(value) for value in values}) == len(values)
    assert None not in {canonical(value) for value in values}


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(_Hostile(), id="foreign object"),
        pytest.param({"deep": [{"inside": _Hostile()}]}, id="foreign object inside"),
        pytest.param(_Order(1, [_Hostile()]), id="foreign object in a dataclass"),  # type: ignore[list-item]
        pytest.param({_Color: 1}, id="class as a key"),
        pytest.param(lambda: None, id="function"),
        pytest.param(10**5_000, id="integer too long for text"),
    ],
)
def test_what_cannot_be_read_safely_is_unknown(value: Any) -> None:
    assert canonical(value) is None


def test_subclasses_of_builtins_are_read_without_their_methods() -> None:
    assert canonical(_HostileDict(a=1)) == canonical({"a": 1})
    assert canonical([_HostileText("x")]) == canonical(["x"])
    assert canonical(_HostileList([1])) == canonical([1])
    assert canonical(_HostileNumber(1.5)) == canonical(1.5)
    assert canonical(_HostileCount(2)) == canonical(2)


def test_a_value_that_holds_itself_is_unknown() -> None:
    loop: list[Any] = []
    loop.append({"again": loop})
    assert canonical(loop) is None


@pytest.mark.parametrize(
    ("within", "beyond"),
    [
        pytest.param([0] * 999, [0] * 1_000, id="values"),
        pytest.param({str(n): 0 for n in range(499)}, {str(n): 0 for n in range(10_000)}, id="keys"),
        pytest.param("x" * 65_536, "x" * 65_537, id="characters"),
        pytest.param(["x" * 32_768] * 2, ["x" * 32_768] * 3, id="characters in all"),
        pytest.param(bytes(65_536), bytes(65_537), id="bytes"),
    ],
)
def test_work_is_bounded(within: Any, beyond: Any) -> None:
    assert canonical(within) is not None
    assert canonical(beyond) is None


def test_foreign_types_are_said_by_the_expansion_and_told_apart_from_their_plain_values() -> None:
    def expand(value: Any) -> tuple[str, Any] | None:
        return ("hostile", {"known": True}) if type(value) is _Hostile else None

    assert canonical([_Hostile()], expand=expand) == canonical([_Hostile()], expand=expand) is not None
    assert canonical([_Hostile()], expand=expand) != canonical([{"known": True}], expand=expand)
