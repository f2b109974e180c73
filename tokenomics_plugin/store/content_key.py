"""A key for items that have no id of their own: a digest of all they say, where they come from included."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, Final

__all__ = ["ContentKeys"]

_KEY_BYTES: Final = 16  # a UUID's size: two of 10^9 different records collide with probability 10^-21


class ContentKeys:
    """Keys of the items of one scope."""

    def __init__(self, of_resource: Any, of_scope: Any) -> None:
        self._scope = blake2b(digest_size=_KEY_BYTES)
        for part in (of_resource.resource, of_resource.schema_url, of_scope.scope, of_scope.schema_url):
            _update(self._scope, part)

    def of(self, *parts: Any) -> str:
        """The key of an item, as 32 hex digits.

        Args:
            parts: Protobuf messages and texts that make up the item.
        """
        digest = self._scope.copy()
        for part in parts:
            _update(digest, part)
        return digest.hexdigest()


def _update(digest: blake2b, part: Any) -> None:
    encoded = part.encode() if isinstance(part, str) else part.SerializeToString(deterministic=True)
    # With its length, so that no two lists of parts read the same.
    digest.update(len(encoded).to_bytes(8))
    digest.update(encoded)
