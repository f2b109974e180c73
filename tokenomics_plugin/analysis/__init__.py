"""One pass over a store, kept as sums and as tables from which every page of the report is made."""

from tokenomics_plugin.analysis.analysis import Analysis
from tokenomics_plugin.analysis.building import analyse

__all__ = ["Analysis", "analyse"]
