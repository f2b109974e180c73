"""Sections of the benchmark of DiffusionBlocks and block-wise fine-tuning."""
