"""DiffusionBlocks (Sakana AI, arXiv 2506.14202) from scratch, and block-wise fine-tuning of pretrained models.

Two things that share a partition into blocks, and little else. The method trains each block as a denoiser of its own
band of noise, independently of all others (`NoiseSchedule`, `Stack`, `train_blocks`). No pretrained language model
survives that: its layers expect what the layers below made of the text, and a denoiser is fed the text itself.
Fine-tuning (`finetune`) therefore trains one block at a time with the exact loss of the whole model.
"""
