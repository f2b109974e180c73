"""On which side of a train/held-out split a task is, for ever.

A hash of the task decides, not its place in the file: more data move no task, and all runs of a task are on one side,
because a model that has learned from one of them knows the answer to the others.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum

__all__ = ["Side", "side_of"]


class Side(StrEnum):
    """What a line is for."""

    TRAIN = "train"
    HELD_OUT = "held_out"


def side_of(name: str, *, held_out: float) -> Side:
    """The side of what has this name. A larger share leaves those held out that were.

    Args:
        name: Of the task, or of the group of tasks that are alike.
        held_out: Share that is held out, from 0 to below 1.
    """
    digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return Side.HELD_OUT if int.from_bytes(digest) < held_out * 2**64 else Side.TRAIN
