"""Sections of `kv_cache.py`: whole decode steps, the attention kernel alone, and a real model end to end."""
