"""Published figures, computed again from public data with this project's code."""
