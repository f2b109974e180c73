"""Keyed fingerprints: equal content is seen to be equal, and the content itself stays in the process.

A plain hash of short text can be reversed by trying all likely texts, so a fingerprint is HMAC-SHA256 (RFC 2104)
under a key that never leaves the process, cut to 64 bits. Each tenant and each rotation period has its own key,
derived from one secret; a fingerprint names its key, so that nobody compares across keys by mistake.

Text is not normalised: a letter composed another way or one more space is other tokens, another price and another
cache entry at the provider. What is merely alike is a question for other tools.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import time
from collections.abc import Callable, ItemsView, Iterable, Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from operator import itemgetter
from struct import Struct
from typing import Any, Final, NoReturn
from uuid import UUID
from zoneinfo import ZoneInfo

__all__ = ["SECRET_VARIABLE", "Expansion", "FingerprintKeys", "Fingerprinter", "canonical"]

SECRET_VARIABLE: Final = "TOKENOMICS_FINGERPRINT_SECRET"
"""Environment variable of the secret that processes share whose fingerprints shall compare."""

Expansion = Callable[[Any], tuple[str, Any] | None]
"""Says a value of a foreign type as a tag and plain values, or `None` when it cannot."""

_BLOCK_BYTES: Final = 64  # of SHA-256, as HMAC needs it
_INNER_PAD: Final = bytes(byte ^ 0x36 for byte in range(256))
_OUTER_PAD: Final = bytes(byte ^ 0x5C for byte in range(256))
_FINGERPRINT_BYTES: Final = 8
_FINGERPRINT_DIGITS: Final = 2 * _FINGERPRINT_BYTES
_KEY_ID_BYTES: Final = 4
_LENGTH: Final = Struct(">Q")
_DAY_NS: Final = 86_400 * 10**9


class Fingerprinter:
    """Fingerprints under one key. Immutable, safe to share between threads.

    It cannot be pickled: the key must not leave the process.

    Args:
        key: The HMAC key, at most 64 bytes.
    """

    __slots__ = ("_inner", "_key_id", "_outer")

    def __init__(self, key: bytes) -> None:
        if not 0 < len(key) <= _BLOCK_BYTES:
            raise ValueError(
                f"a key must have 1 to {_BLOCK_BYTES} bytes, got {len(key)}; derive one by FingerprintKeys"
            )
        # HMAC by its definition, on hash objects that hold the padded key already: 0.6 us, hmac.digest takes 1.6.
        padded = key.ljust(_BLOCK_BYTES, b"\0")
        self._inner = hashlib.sha256(padded.translate(_INNER_PAD))
        self._outer = hashlib.sha256(padded.translate(_OUTER_PAD))
        # Content is framed by its length, so no content has the digest of this label.
        self._key_id = self._digest(b"tokenomics fingerprint key id")[:_KEY_ID_BYTES].hex()

    @property
    def key_id(self) -> str:
        """8 hex digits that name the key without telling it."""
        return self._key_id

    def of(self, *parts: str | bytes) -> str:
        """The fingerprint of parts in their order: `keyid:` and 16 hex digits.

        Text counts as its UTF-8 bytes. Parts are framed by their lengths: `("ab", "c")` is not `("a", "bc")`.
        """
        return f"{self._key_id}:{self._digest(_framed(parts)).hex()[:_FINGERPRINT_DIGITS]}"

    def unlike_any(self) -> str:
        """A fingerprint that equals no other, for content that cannot be compared."""
        return f"{self._key_id}:{secrets.token_hex(_FINGERPRINT_BYTES)}"

    def _digest(self, message: bytes) -> bytes:
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(message)
        outer.update(inner.digest())
        return outer.digest()

    def __repr__(self) -> str:
        return f"Fingerprinter(key_id={self._key_id!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Fingerprinter holds a key and cannot be pickled; derive it anew in the other process")


class FingerprintKeys:
    """The keys of one tenant, one for each rotation period, derived from a secret.

    Fingerprints compare only under one key: same secret, same tenant, same period. A run keeps the
    `Fingerprinter` that it started with, so rotation never falls inside it. Cannot be pickled.

    Args:
        secret: What keys are derived from; 32 random bytes are a good one. Without it, a random secret is
            made, and fingerprints compare only within this process.
        tenant: Whose content it is: tenants with one secret still cannot be compared.
        rotation_days: Days, counted from the epoch in UTC, after which the next key takes over.

    Raises:
        ValueError: If the secret is empty or `rotation_days` is below 1.
    """

    __slots__ = ("_current", "_rotation_days", "_secret", "_tenant")

    def __init__(self, secret: bytes | None = None, *, tenant: str = "", rotation_days: int = 30) -> None:
        if secret is not None and not secret:
            raise ValueError("the fingerprint secret is empty: give random bytes, or None for a secret of this process")
        if rotation_days < 1:
            raise ValueError(f"rotation_days must be at least 1, got {rotation_days}")
        self._secret = secrets.token_bytes(32) if secret is None else secret
        self._tenant = tenant
        self._rotation_days = rotation_days
        self._current: tuple[int, Fingerprinter] | None = None

    @classmethod
    def from_environment(cls, *, tenant: str = "", rotation_days: int = 30) -> FingerprintKeys:
        """Keys from the secret in `TOKENOMICS_FINGERPRINT_SECRET`, or of this process where it is not set.

        Raises:
            ValueError: If the variable is set and empty.
        """
        secret = os.environ.get(SECRET_VARIABLE)
        if secret == "":
            raise ValueError(
                f"{SECRET_VARIABLE} is set and empty: give it a secret, such as `openssl rand -hex 32`, or unset it"
            )
        return cls(None if secret is None else os.fsencode(secret), tenant=tenant, rotation_days=rotation_days)

    def current(self, now_unix_nano: int | None = None) -> Fingerprinter:
        """The key of the period that a time falls into; now by default."""
        period = (time.time_ns() if now_unix_nano is None else now_unix_nano) // (self._rotation_days * _DAY_NS)
        if (current := self._current) is None or current[0] != period:
            self._current = current = (period, Fingerprinter(self._key(period)))
        return current[1]

    def _key(self, period: int) -> bytes:
        parts = ("tokenomics fingerprint key", self._tenant, str(self._rotation_days), str(period))
        return hmac.digest(self._secret, _framed(parts), "sha256")

    def __repr__(self) -> str:
        return f"FingerprintKeys(tenant={self._tenant!r}, rotation_days={self._rotation_days})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("FingerprintKeys hold a secret and cannot be pickled; build them anew in the other process")


def _framed(parts: Iterable[str | bytes]) -> bytes:
    framed: list[bytes] = []
    for part in parts:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        framed += (_LENGTH.pack(len(data)), data)
    return b"".join(framed)


def canonical(
    value: Any, *, expand: Expansion | None = None, max_leaves: int = 1_000, max_characters: int = 65_536
) -> bytes | None:
    """A value as bytes that are the same for equal values, in whatever order its mappings and sets were filled.

    Read without asking the value's class: builtin types and their subclasses by the builtin's own methods,
    dataclasses by their fields, past any `__getattr__`, enum members by class and name. No `repr`, `str`, `==` or
    `hash` of a foreign object is called: they may be slow, block or change something. Lists and tuples are alike,
    because a round trip through JSON or a checkpoint makes one of the other; 1, 1.0 and True are not.

    Args:
        value: What to say.
        expand: How to say types that this function does not know. It is asked for all but text, numbers and
            dicts, so that it can say many values at once.
        max_leaves: Values, containers included, up to which it is read.
        max_characters: Characters of text, or bytes, up to which it is read.

    Returns:
        `None` when the value holds an unknown type, itself, or more than the limits allow. Not the type's name in
        its place: two objects of a type that differ would then pass for the same content.
    """
    writer = _Writer(expand, leaves=max_leaves, characters=max_characters)
    try:
        writer.write(value, 0)
        return "".join(writer.parts).encode("utf-8", "surrogatepass")
    except Exception:  # unknown, too deep, or changed by another thread while we read it
        return None


class _UnknownError(Exception):
    """This value has no canonical form within the limits."""


_CONSTANTS: Final[Mapping[bool | None, str]] = {None: "n", True: "t", False: "f"}
_MAX_DEPTH: Final = 64
_TEXT: Final = frozenset({str})
_first: Final = itemgetter(0)
# Their text is made by the standard library alone.
_PLAIN_TEXT: Final = frozenset({date, timedelta, Decimal, UUID})
_PLAIN_ZONES: Final = frozenset({type(None), timezone, ZoneInfo})


class _Writer:
    """Writes values one after the other, each with a letter for its type and, for text, its length."""

    __slots__ = ("_characters", "_expand", "_leaves", "parts")

    def __init__(self, expand: Expansion | None, *, leaves: int, characters: int) -> None:
        self.parts: list[str] = []
        self._expand = expand
        self._leaves = leaves
        self._characters = characters

    def write(self, value: Any, depth: int) -> None:
        self._leaves -= 1
        if self._leaves < 0 or depth > _MAX_DEPTH:
            raise _UnknownError
        kind = type(value)
        if kind is str:  # as `_write_text` does, in place: most values are text
            self._characters -= len(value)
            if self._characters < 0:
                raise _UnknownError
            self.parts.append(f"s{len(value)}:{value}")
        elif value is None or kind is bool:
            self.parts.append(_CONSTANTS[value])
        elif kind is int or kind is float:
            self.parts.append(f"{'i' if kind is int else 'd'}{value!r};")
        elif kind is dict:
            self._write_items(value.items(), depth)
        else:
            self._write_other(value, kind, depth)

    def _write_text(self, letter: str, text: str) -> None:
        self._characters -= len(text)
        if self._characters < 0:
            raise _UnknownError
        self.parts.append(f"{letter}{len(text)}:{text}")

    def _write_bytes(self, data: bytes | bytearray) -> None:
        self._characters -= len(data)
        if self._characters < 0:
            raise _UnknownError
        self.parts.append(f"b{len(data)}:{data.hex()}")

    def _write_sequence(self, values: Iterable[Any], depth: int) -> None:
        self.parts.append("[")
        for value in values:
            self.write(value, depth + 1)
        self.parts.append("]")

    def _write_items(self, items: ItemsView[Any, Any], depth: int) -> None:
        if len(items) > self._leaves:  # before sorting, which takes them all
            raise _UnknownError
        pairs = list(items)
        if set(map(type, map(_first, pairs))) <= _TEXT:
            pairs.sort(key=_first)
        else:
            pairs.sort(key=lambda pair: self._apart(pair[0], depth))
        self.parts.append("{")
        for key, value in pairs:
            if type(key) is str and type(value) is str and depth < _MAX_DEPTH:  # as `write` does: arguments are text
                self._leaves -= 2
                self._characters -= len(key) + len(value)
                if self._leaves < 0 or self._characters < 0:
                    raise _UnknownError
                self.parts.append(f"s{len(key)}:{key}s{len(value)}:{value}")
            else:
                self.write(key, depth + 1)
                self.write(value, depth + 1)
        self.parts.append("}")

    def _apart(self, value: Any, depth: int) -> str:
        """The text of one value, to sort by: values themselves need not have an order."""
        written_so_far, self.parts = self.parts, []
        try:
            self.write(value, depth + 1)
            return "".join(self.parts)
        finally:
            self.parts = written_so_far

    def _write_other(self, value: Any, kind: type, depth: int) -> None:
        if self._expand is not None and (expanded := self._expand(value)) is not None:
            self._write_object(*expanded, depth)
        elif kind is list or kind is tuple:
            self._write_sequence(value, depth)
        elif kind is set or kind is frozenset:
            self.parts += ("(", *sorted(self._apart(member, depth) for member in value), ")")
        elif kind is bytes or kind is bytearray:
            self._write_bytes(value)
        elif kind in _PLAIN_TEXT or (kind is datetime and type(value.tzinfo) in _PLAIN_ZONES):
            self._write_object(kind.__qualname__, str(value), depth)
        else:
            self._write_instance(value, kind, depth)

    def _write_instance(self, value: Any, kind: type, depth: int) -> None:
        if issubclass(kind, (str, int, float)):
            self.write(_plain(value, kind), depth)
        elif issubclass(kind, dict):
            self._write_items(dict.items(value), depth)
        elif issubclass(kind, list):
            self._write_sequence(list.__iter__(value), depth)
        elif issubclass(kind, tuple):
            self._write_sequence(tuple.__iter__(value), depth)
        elif issubclass(kind, Enum):
            self._write_object(kind.__qualname__, object.__getattribute__(value, "_name_"), depth)
        elif is_dataclass(kind):
            by_name = {field.name: object.__getattribute__(value, field.name) for field in fields(kind)}
            self._write_object(kind.__qualname__, by_name, depth)
        else:
            raise _UnknownError

    def _write_object(self, tag: str, value: Any, depth: int) -> None:
        self._write_text("o", tag)
        self.write(value, depth + 1)


def _plain(value: Any, kind: type) -> str | int | float:
    """The builtin value of an instance of a subclass, by the builtin's own method."""
    if issubclass(kind, str):
        return str.__str__(value)
    return int.__pos__(value) if issubclass(kind, int) else float.__pos__(value)
