"""What sums over tasks say about the next task: estimates with intervals that hold for small, clustered samples.

Pure functions over plain numbers; nothing here knows spans, prices or money. A *cluster* is a set of tasks that
are alike (the same problem tried again, the same template, the same customer): clusters are the independent
draws, and an interval that ignores them is too narrow at every sample size.
"""

from tokenomics_plugin.statistics.bounds import Range, manski_bounds
from tokenomics_plugin.statistics.fieller import ConfidenceSet, SetShape
from tokenomics_plugin.statistics.confidence_sequence import *
from tokenomics_plugin.statistics.log_ratio import *
from tokenomics_plugin.statistics.mean import Mean, cluster_mean
from tokenomics_plugin.statistics.proportion import clustered_wilson, rule_of_three, wilson
from tokenomics_plugin.statistics.ratio import Ratio, ratio_of_sums
from tokenomics_plugin.statistics.sample_size import MIN_CLUSTERS, SampleSize
