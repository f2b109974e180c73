"""`tokenomics-llm calibrate`: the rotations of a model, in a file that is found beside its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from tokenomics_local_llm.model import load_model
from tokenomics_local_llm.oscar import save_rotations
from tokenomics_local_llm.rotations import CALIBRATION_TOKENS, ROTATIONS_FILE, calibrate_on

__all__ = ["calibrate"]

_FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("model")
@click.option(
    "--text",
    "texts",
    type=_FILE,
    multiple=True,
    required=True,
    help="Long and mixed, of the kind that the model will read; may be repeated.",
)
@click.option(
    "--tokens", type=click.IntRange(min=1), default=CALIBRATION_TOKENS, show_default=True, help="Of all texts."
)
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Else a file in MODEL's folder.")
@click.option("--device", help="A torch device; else the GPU when there is one.")
def calibrate(model: str, texts: tuple[Path, ...], tokens: int, output: Path | None, device: str | None) -> None:
    """Fit the rotations of the 2-bit cache to MODEL: a folder, a Hugging Face id or SmolLM2-135M-Instruct.

    A file oscar_rotations.safetensors in the folder of a model is what ChatLocalLLM(kv_cache="oscar") takes.
    """
    folder = Path(model)
    if output is None and not folder.is_dir():
        raise click.BadParameter(f"{model} is no folder that the rotations could be put in: name an --output")
    path = output or folder / ROTATIONS_FILE
    save_rotations(calibrate_on(load_model(model, device=device), texts, tokens=tokens), path)
    click.echo(path)
