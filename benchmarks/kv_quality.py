"""What 2-bit key-value caches cost in quality: perplexity and divergence over quantised history, on SmolLM2.

The same code as `tokenomics-llm eval`, on fixed texts: public-domain novels, two to calibrate on and three to score.
Each is read in chunks of 256 tokens against the cache of all before them, and the last two thirds are scored. One-shot
perplexity would measure nothing: while a prompt is read, attention still sees exact keys. Every arm is run here, on the
same texts, beside the full cache; the backends of transformers' QuantizedCache are installed into `.venv-peers` first.

Perplexity is given as a ratio to the full cache's, with the mean and the spread over the texts. With --records a run
that was killed goes on. The last line of stdout is one JSON document; the exit status is 1 if a check does not hold.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from closing import Check, close
from novels import novel_tokens
from peer_packages import QUANTIZED_CACHES, restart_with
from tokenomics_local_llm import LocalModel, load_model
from tokenomics_local_llm.evaluation.arms import OURS, PUBLISHED, arms, fit, missing_peers
from tokenomics_local_llm.evaluation.calibrated import kept_moments
from tokenomics_local_llm.evaluation.records import Records
from tokenomics_local_llm.evaluation.study import Study, study_name, table
from tokenomics_local_llm.oscar import output_metrics
from tokenomics_local_llm.rotations import identity

_DATA = "TOKENOMICS_SHARED_DATA"
_CALIBRATION = ("Cbronte_Villette_1853.txt", "Eliot_Adam_1859.txt")
_HELD_OUT = ("Gaskell_Lovers_1863.txt", "James_Tragic_1890.txt", "Lawrence_Women_1920.txt")


def main() -> None:
    options = _options()
    if options.peers:
        restart_with(QUANTIZED_CACHES)
    torch.set_num_threads(options.threads)
    local = load_model(dtype="float32", device="cpu")
    texts = {name: _tokens(local, options.data, name, options.context) for name in _HELD_OUT[: options.texts]}
    windows = _calibration_windows(local, options)
    every = arms(local.model, fit(kept_moments(local, windows), output_metrics(local.model)))
    study = Study(
        model=local,
        texts=texts,
        arms=[arm for arm in every if not options.arms or arm.name in options.arms],
        on_step=tqdm.write,
    )
    records = Records(options.records, study_name(identity(local.model, windows), texts))
    study.measure_history(records)
    figures, missing = study.summary(records), missing_peers()
    print("\n".join(table(figures)))
    for backend in missing:
        print(f"QuantizedCache {backend}: not installed")
    close(
        "kv_quality",
        packages=("torch", "transformers"),
        figures=figures,
        checks=list(_checks(figures, options.context)),
        context_tokens=options.context,
        calibration_tokens=sum(map(len, windows)),
        texts=list(texts),
        not_installed=missing,
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(os.environ.get(_DATA, beside)),
        help=f"folder of the public data sets; by default ${_DATA}, else %(default)s",
    )
    parser.add_argument("--context", type=int, default=3072, help="tokens of each text (%(default)s)")
    parser.add_argument("--texts", type=int, default=len(_HELD_OUT), help="how many to score (%(default)s)")
    parser.add_argument("--calibration-tokens", type=int, default=16384, help="of both novels (%(default)s)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no-peers", dest="peers", action="store_false", help="install no other packages")
    parser.add_argument("--arms", nargs="*", help="only these, by name")
    parser.add_argument("--records", type=Path, help="file of what was measured, to go on from")
    return parser.parse_args()


def _tokens(local: LocalModel, data: Path, name: str, count: int, *, skipping: int = 0) -> Tensor:
    path = data / "corpora" / "english_novels" / name
    if not path.is_file():
        sys.exit(f"{path} is absent: name the folder of the public data sets by --data")
    return novel_tokens(local, path, count, skipping=skipping)


def _calibration_windows(local: LocalModel, options: argparse.Namespace) -> list[Tensor]:
    each = options.calibration_tokens // 4
    return [_tokens(local, options.data, name, each, skipping=far) for name in _CALIBRATION for far in (0, 280_000)]


def _checks(figures: dict[str, dict[str, Any]], context: int) -> Iterator[Check]:
    if OURS not in figures:
        return
    ours = figures[OURS]
    most = 1.009 if context <= 4096 else 1.015
    ratio = ours["perplexity_ratio"]
    yield Check(name="perplexity ratio", value=ratio, goal=f"at most {most}", holds=ratio <= most)
    if PUBLISHED in figures:
        share = ours["kl"] / figures[PUBLISHED]["kl"]
        yield Check(name="KL, of that of OSCAR as published", value=share, goal="at most 0.08", holds=share <= 0.08)


if __name__ == "__main__":
    main()
