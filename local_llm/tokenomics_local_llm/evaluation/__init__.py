"""How much a compressed key-value cache changes what a model says."""

from tokenomics_local_llm.evaluation.history import HistoryScore, compare, logits_over_history

__all__ = ["HistoryScore", "compare", "logits_over_history"]
