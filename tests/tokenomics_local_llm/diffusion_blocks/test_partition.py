from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import OPTConfig, OPTForCausalLM

from tokenomics_local_llm.diffusion_blocks.objectives import exact_loss
from tokenomics_local_llm.diffusion_blocks.partition import Partition, PartitionError
from tokenomics_local_llm.diffusion_blocks.rows import pack

ROWS = pack([(3 * index) % 31 for index in range(33)], length=8)


@pytest.mark.parametrize("blocks", [1, 2, 3, 4])
def test_a_parameter_belongs_to_one_block_or_to_none(any_model: Any, blocks: int) -> None:
    partition = Partition(any_model, blocks)

    owned = [name for block in partition for name in partition.parameters(block)]
    nobodys = {name for name, _ in any_model.named_parameters()} - set(owned)

    assert len(owned) == len(set(owned))
    assert all("embed" in name or "norm" in name or name.split(".")[1] in {"wte", "wpe", "ln_f"} for name in nobodys)
    assert not any(".layers." in name or ".h." in name for name in nobodys)


@pytest.mark.parametrize(("blocks", "sizes"), [(1, [4]), (2, [2, 2]), (3, [1, 1, 2]), (4, [1, 1, 1, 1])])
def test_blocks_are_neighbours_in_the_order_of_the_layers(llama: Any, blocks: int, sizes: list[int]) -> None:
    partition = Partition(llama, blocks)

    assert [len(partition.layers(block)) for block in partition] == sizes
    assert [layer for block in partition for layer in partition.layers(block)] == list(llama.model.layers)


def test_only_the_trained_block_gets_gradients(any_model: Any) -> None:
    partition = Partition(any_model, 2)

    for block in partition:
        partition.train_only(block)
        exact_loss(partition, chunk_rows=8)(ROWS).backward()  # type: ignore[no-untyped-call]

        with_gradient = {name for name, value in any_model.named_parameters() if value.grad is not None}
        assert with_gradient == set(partition.parameters(block))


def test_a_blocks_gradient_is_its_part_of_the_whole_models(any_model: Any) -> None:
    whole, halves = Partition(any_model, 1), Partition(any_model, 2)
    whole.train_only(0)
    exact_loss(whole, chunk_rows=8)(ROWS).backward()  # type: ignore[no-untyped-call]
    expected = {name: value.grad.clone() for name, value in whole.parameters(0).items() if value.grad is not None}

    for block in halves:
        halves.train_only(block)
        exact_loss(halves, chunk_rows=8)(ROWS).backward()  # type: ignore[no-untyped-call]
        for name, value in halves.parameters(block).items():
            torch.testing.assert_close(value.grad, expected[name])


def test_the_loss_is_transformers_own(any_model: Any) -> None:
    partition = Partition(any_model, 2)

    ours = exact_loss(partition, chunk_rows=5)(ROWS)

    logits = any_model(ROWS.input_ids).logits
    torch.testing.assert_close(ours, torch.nn.functional.cross_entropy(logits.flatten(0, 1), ROWS.targets.flatten()))


def test_a_block_that_was_overwritten_comes_back_to_the_last_bit(any_model: Any) -> None:
    partition = Partition(any_model, 2)
    before = any_model(ROWS.input_ids).logits
    saved = {name: value.clone() for name, value in partition.tensors(1).items()}
    for value in partition.tensors(1).values():
        value.add_(1.0)
    assert not any_model(ROWS.input_ids).logits.equal(before)

    partition.load(1, saved)

    assert any_model(ROWS.input_ids).logits.equal(before)


def test_the_tensors_of_another_block_are_refused(llama: Any) -> None:
    partition = Partition(llama, 2)

    with pytest.raises(ValueError, match="not the parameters of block 0"):
        partition.load(0, partition.tensors(1))


@torch.no_grad()
def test_what_a_block_writes_is_what_the_next_one_reads(any_model: Any) -> None:
    partition = Partition(any_model, 2)
    ran = []
    partition.layers(1)[0].register_forward_pre_hook(
        lambda _module, inputs, named: ran.append(inputs[0] if inputs else named["hidden_states"]), with_kwargs=True
    )

    any_model(ROWS.input_ids)
    stopped = partition.hidden_after(0, ROWS.input_ids)

    assert len(ran) == 1
    assert stopped.equal(ran[0])


@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "checkpointed"])
def test_computing_layers_twice_changes_no_gradient(llama: Any, checkpointing: bool) -> None:
    partition = Partition(llama, 2)
    partition.train_only(0)
    exact_loss(partition, chunk_rows=8)(ROWS).backward()  # type: ignore[no-untyped-call]
    plain = {name: value.grad.clone() for name, value in partition.parameters(0).items() if value.grad is not None}

    partition.train_only(0)
    llama.train()
    partition.checkpoint_activations(checkpointing)
    exact_loss(partition, chunk_rows=8)(ROWS).backward()  # type: ignore[no-untyped-call]

    for name, value in partition.parameters(0).items():
        torch.testing.assert_close(value.grad, plain[name])


@pytest.mark.parametrize("blocks", [0, 5])
def test_there_are_at_most_as_many_blocks_as_layers(llama: Any, blocks: int) -> None:
    with pytest.raises(PartitionError, match=f"1 to 4, the layers of the model, got {blocks}"):
        Partition(llama, blocks)


def test_an_architecture_that_is_not_known_is_refused() -> None:
    model = OPTForCausalLM(
        OPTConfig(vocab_size=8, hidden_size=8, ffn_dim=8, num_hidden_layers=1, num_attention_heads=1)
    )

    with pytest.raises(PartitionError, match="type 'opt' cannot be divided into blocks: known types are gpt2, llama"):
        Partition(model, 1)
