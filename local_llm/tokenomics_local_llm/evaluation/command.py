"""`tokenomics-llm eval`: what 2-bit key-value caches cost a model in quality, ours beside others'."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NoReturn

import click
import torch
from torch import Tensor
from tqdm import tqdm

from tokenomics_local_llm.errors import LocalLLMError
from tokenomics_local_llm.evaluation.arms import ABLATIONS, arms, fit, missing_peers
from tokenomics_local_llm.evaluation.calibrated import kept_moments
from tokenomics_local_llm.evaluation.plot import quality_plot
from tokenomics_local_llm.evaluation.records import Records
from tokenomics_local_llm.evaluation.study import Study, study_name, table
from tokenomics_local_llm.model import LocalModel, load_model
from tokenomics_local_llm.oscar import output_metrics
from tokenomics_local_llm.rotations import CALIBRATION_TOKENS, identity, text_windows

__all__ = ["evaluate"]

_FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)
_FOLDER: Final = click.Path(file_okay=False, path_type=Path)
_MEASURES: Final[dict[str, Any]] = {
    "history": Study.measure_history,
    "attention": Study.measure_attention,
    "needle": Study.measure_needles,
}
_OWN_TEXTS: Final = 3  # windows of the text that comes with Python


@click.command()
@click.argument("model")
@click.option("--text", "texts", type=_FILE, multiple=True, help="Held-out text; else Python's language reference.")
@click.option("--calibration", type=_FILE, multiple=True, help="Text to calibrate on; else one that comes with us.")
@click.option("--calibration-tokens", type=click.IntRange(min=1), default=CALIBRATION_TOKENS, show_default=True)
@click.option("-o", "--output", type=_FOLDER, default=Path("kv-eval"), show_default=True, help="Folder for the result.")
@click.option("--context", type=click.IntRange(min=512), default=3072, show_default=True, help="Tokens of each text.")
@click.option("--arm", "chosen", multiple=True, help="Only this cache, by its name in the table; may be repeated.")
@click.option("--ablations", is_flag=True, help="Also every step from the published recipe to ours.")
@click.option("--measure", "measures", type=click.Choice(list(_MEASURES)), multiple=True, default=list(_MEASURES))
@click.option("--device", help="A torch device; else the GPU when there is one.")
@click.option("--dtype", default="float32", show_default=True)
@click.option("--threads", type=click.IntRange(min=1), help="Of PyTorch.")
def evaluate(
    model: str,
    texts: tuple[Path, ...],
    calibration: tuple[Path, ...],
    calibration_tokens: int,
    output: Path,
    context: int,
    chosen: tuple[str, ...],
    ablations: bool,
    measures: tuple[str, ...],
    device: str | None,
    dtype: str,
    threads: int | None,
) -> None:
    """Compare key-value caches of MODEL: a folder, a Hugging Face id or SmolLM2-135M-Instruct.

    Perplexity and greedy tokens are those of positions whose history is quantised; attention is compared layer by
    layer, and needles are hidden in a haystack. OUTPUT gets result.json and quality.svg. The same call goes on with a
    run that was interrupted.
    """
    if threads:
        torch.set_num_threads(threads)
    loaded = load_model(model, device=device, dtype=dtype)
    windows = text_windows(loaded, calibration or (None,), tokens=calibration_tokens)
    held_out = _held_out(loaded, texts, context)
    every = arms(loaded.model, fit(kept_moments(loaded, windows), output_metrics(loaded.model)))
    unknown = set(chosen) - {arm.name for arm in every}
    if unknown:
        names = ", ".join(arm.name for arm in every)
        raise click.BadParameter(f"no cache is called {', '.join(sorted(unknown))}: there are {names}")
    compared = [arm for arm in every if (arm.name in chosen if chosen else ablations or arm.name not in ABLATIONS)]
    name = study_name(identity(loaded.model, windows), held_out, dtype=dtype)
    records = Records(output / "records.jsonl", name)
    with _progress(Study(model=loaded, texts=held_out, arms=compared)) as study:
        for measure in dict.fromkeys(("history", *measures)):  # the table is about it
            _MEASURES[measure](study, records)
    _write(study, records, output)


@contextmanager
def _progress(study: Study) -> Iterator[Study]:
    bar: tqdm[NoReturn]
    with tqdm(total=study.steps, unit="measurement", disable=None) as bar:

        def done(what: str) -> None:
            bar.update()
            bar.write(what)

        yield study.told_to(done)


def _held_out(model: LocalModel, texts: tuple[Path, ...], context: int) -> dict[str, Tensor]:
    if texts:
        return {path.name: text_windows(model, [path], tokens=context, length=context)[0] for path in texts}
    try:
        from pydoc_data.topics import topics
    except ModuleNotFoundError as error:
        raise LocalLLMError("this Python comes without its language reference: name a --text") from error
    tokens = torch.tensor(model.encode("\n\n".join(topics[name] for name in sorted(topics))))
    step = len(tokens) // _OWN_TEXTS
    return {f"Python's reference, {i + 1}": tokens[i * step : i * step + context] for i in range(_OWN_TEXTS)}


def _write(study: Study, records: Records, output: Path) -> None:
    figures = study.summary(records)
    result = {
        "model": study.model.name,
        "context_tokens": study.context_tokens,
        "texts": list(study.texts),
        "full_cache": study.full_figures(records),
        "arms": figures,
        "not_installed": missing_peers(),
    }
    (output / "result.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
    title = f"{study.model.name}, {study.context_tokens} tokens, {len(study.texts)} texts"
    (output / "quality.svg").write_text(quality_plot(figures, title=title), encoding="utf-8")
    for line in table(figures):
        click.echo(line)
    for backend in missing_peers():
        click.echo(f"QuantizedCache {backend}: not installed")
    click.echo(f"{output / 'result.json'}, {output / 'quality.svg'}")
