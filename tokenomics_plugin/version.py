"""The version that our instrumentation scopes carry."""

from __future__ import annotations

from functools import cache
from importlib import metadata

__all__ = ["package_version"]


@cache
def package_version() -> str | None:
    """Version of the installed distribution; `None` for a source tree on the path."""
    try:
        return metadata.version("tokenomics-plugin")
    except metadata.PackageNotFoundError:
        return None
