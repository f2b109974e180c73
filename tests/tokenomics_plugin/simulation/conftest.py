"""Runs to simulate."""

from __future__ import annotations

from hypothesis import settings

# A busy machine may stall any example for longer than Hypothesis allows it.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")
