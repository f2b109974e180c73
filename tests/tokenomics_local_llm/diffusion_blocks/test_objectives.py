from __future__ import annotations

from typing import Any

import torch

from tokenomics_local_llm.diffusion_blocks.objectives import Lens, exact_loss, fit_lens, local_loss
from tokenomics_local_llm.diffusion_blocks.partition import Partition
from tokenomics_local_llm.diffusion_blocks.rows import pack

ROWS = pack([(3 * index) % 31 for index in range(129)], length=16)


def test_the_last_block_read_through_a_new_lens_has_the_exact_loss(any_model: Any) -> None:
    partition = Partition(any_model, 2)

    local = local_loss(partition, 1, Lens(torch.zeros(16)), chunk_rows=64)(ROWS)

    torch.testing.assert_close(local, exact_loss(partition, chunk_rows=64)(ROWS))


def test_a_local_loss_needs_no_layer_above_the_block(llama: Any) -> None:
    partition = Partition(llama, 2)
    ran: list[int] = []
    for number, layer in enumerate(llama.model.layers):
        layer.register_forward_hook(lambda *_, number=number: ran.append(number))

    local_loss(partition, 0, Lens(torch.zeros(16)), chunk_rows=64)(ROWS)

    assert ran == [0, 1]


def test_fitting_a_lens_lowers_its_loss_and_leaves_the_model_alone(llama: Any) -> None:
    partition = Partition(llama, 2)
    before = {name: value.clone() for name, value in llama.state_dict().items()}

    lens = fit_lens(partition, 0, [ROWS] * 40, chunk_rows=64)

    fitted, unfitted = (
        float(local_loss(partition, 0, reader, chunk_rows=64)(ROWS).detach())
        for reader in (lens, Lens(torch.zeros(16)))
    )
    assert fitted < unfitted - 0.01
    assert all(value.equal(before[name]) for name, value in llama.state_dict().items())
    assert not any(parameter.requires_grad for parameter in lens.parameters())
