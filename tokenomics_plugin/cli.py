"""`tokenomics collect | import | report | dataset`: parse, call, print.

The commands need extras; with the base install alone the program still runs, and says which to install.
"""

from __future__ import annotations

import sys

from tokenomics_plugin.errors import MissingExtraError

__all__ = ["main"]


def main() -> None:
    """Run the command line; exits with 1 on an error and 2 on a wrong call."""
    try:
        from tokenomics_plugin import commands
    except ModuleNotFoundError as error:
        if error.name != "click":
            raise
        sys.exit(f"error: {MissingExtraError('click', extra='collector,report')}")
    commands.main()


if __name__ == "__main__":
    main()
