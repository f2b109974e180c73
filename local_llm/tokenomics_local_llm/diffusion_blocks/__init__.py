"""DiffusionBlocks (Sakana AI, arXiv 2506.14202) from scratch, and block-wise fine-tuning of pretrained models.

Two things that share a partition into blocks, and little else. The method trains each block as a denoiser of its own
band of noise, independently of all others (`NoiseSchedule`, `Stack`, `train_blocks`). No pretrained language model
survives that: its layers expect what the layers below made of the text, and a denoiser is fed the text itself.
Fine-tuning (`finetune`, `finetune_in_rounds`) therefore trains one block at a time with the exact loss of the whole
model.
"""

from tokenomics_local_llm.diffusion_blocks.classification import ClassDenoiser, classify
from tokenomics_local_llm.diffusion_blocks.gate import Gate, Reading
from tokenomics_local_llm.diffusion_blocks.image import ImageDenoiser, sample_images
from tokenomics_local_llm.diffusion_blocks.in_turn import FineTuningData, finetune
from tokenomics_local_llm.diffusion_blocks.journal import Attempt, Journal, ResumeError
from tokenomics_local_llm.diffusion_blocks.partition import Partition, PartitionError
from tokenomics_local_llm.diffusion_blocks.rounds import finetune_in_rounds, process_group
from tokenomics_local_llm.diffusion_blocks.rows import Example, Rows, pack, pad
from tokenomics_local_llm.diffusion_blocks.schedule import NoiseSchedule
from tokenomics_local_llm.diffusion_blocks.stack import BlockTraining, Stack, load_stack, train_block, train_blocks
from tokenomics_local_llm.diffusion_blocks.text import TokenDecoder, TokenDenoiser
from tokenomics_local_llm.diffusion_blocks.visit import FineTuning

__all__ = [
    "Attempt",
    "BlockTraining",
    "ClassDenoiser",
    "Example",
    "FineTuning",
    "FineTuningData",
    "Gate",
    "ImageDenoiser",
    "Journal",
    "NoiseSchedule",
    "Partition",
    "PartitionError",
    "Reading",
    "ResumeError",
    "Rows",
    "Stack",
    "TokenDecoder",
    "TokenDenoiser",
    "classify",
    "finetune",
    "finetune_in_rounds",
    "load_stack",
    "pack",
    "pad",
    "process_group",
    "sample_images",
    "train_block",
    "train_blocks",
]
