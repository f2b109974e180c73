"""What has to be set before any test module is imported."""

from __future__ import annotations

import os

# Triton reads it when it is first imported, and importing a model of transformers does that.
os.environ.setdefault("TRITON_INTERPRET", "1")
