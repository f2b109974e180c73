"""`tokenomics-llm calibrate | eval | finetune`: parse, call, print.

The commands need click, which comes with the extra `local`; without it the program says so.
"""

from __future__ import annotations

import sys

from tokenomics_local_llm.errors import MissingExtraError

__all__ = ["main"]


def main() -> None:
    """Run the command line; exits with 1 on an error and 2 on a wrong call."""
    try:
        from tokenomics_local_llm import commands
    except ModuleNotFoundError as error:
        if error.name != "click":
            raise
        sys.exit(f"error: {MissingExtraError('click')}")
    commands.main()


if __name__ == "__main__":
    main()
