"""The commands by name. Each lives with what it calls, and is imported when it is named."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

import click

from tokenomics_local_llm.errors import LocalLLMError

__all__ = ["main"]

_COMMANDS: Final = {
    "calibrate": "tokenomics_local_llm.calibration_command:calibrate",
    "eval": "tokenomics_local_llm.evaluation.command:evaluate",
    "finetune": "tokenomics_local_llm.diffusion_blocks.command:finetune",
}


class _Commands(click.Group):
    """Turns our own errors into one line on stderr; anything else is a bug and keeps its traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names."""
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name, or `None`."""
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was named."""
        try:
            return super().invoke(ctx)
        except LocalLLMError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="tokenomics-plugin", prog_name="tokenomics-llm")
def main() -> None:
    """Train, calibrate and evaluate the models that run on this machine."""
