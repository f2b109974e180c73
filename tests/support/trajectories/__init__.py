"""Trajectories written by hand, for whoever reads trajectories: a script of turns, and waste to inject into it."""

from trajectories.decoys import DECOYS, UNDETECTABLE
from trajectories.injection import INJECTIONS, Cells, Injected, cells_of, clean_turn
from trajectories.script import Script, fingerprint

__all__ = [
    "DECOYS",
    "INJECTIONS",
    "UNDETECTABLE",
    "Cells",
    "Injected",
    "Script",
    "cells_of",
    "clean_turn",
    "fingerprint",
]
