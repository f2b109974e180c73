"""What sums over tasks say about the next task: estimates with intervals that hold for small, clustered samples.

Pure functions over plain numbers; nothing here knows spans, prices or money. A *cluster* is a set of tasks that
are alike (the same problem tried again, the same template, the same customer): clusters are the independent
draws, and an interval that ignores them is too narrow at every sample size.
"""

from tokenomics_plugin.statistics.audit import AuditedStratum, Calibrated, Draw, Judged, calibrate, draw_spans
from tokenomics_plugin.statistics.beta_binomial import (
    AttemptForecast,
    BetaBinomial,
    fit_beta_binomial,
    forecast_attempts,
)
from tokenomics_plugin.statistics.bounds import Range, manski_bounds
from tokenomics_plugin.statistics.bridge import (
    Bridge,
    PeriodTotals,
    SuccessTotals,
    bridge_of_cost,
    bridge_of_value,
    decompose_product,
)
from tokenomics_plugin.statistics.confidence_sequence import (
    MeanSequence,
    RatioAt,
    excess_sequence,
    mean_sequence,
    ratio_sequence,
)
from tokenomics_plugin.statistics.cost_of_pass import CostOfPass, Trials, cost_of_pass
from tokenomics_plugin.statistics.fieller import ConfidenceSet, SetShape
from tokenomics_plugin.statistics.flips import Flips
from tokenomics_plugin.statistics.horizon import (
    Cohort,
    CohortMismatchError,
    LateValue,
    StepFunction,
    kaplan_meier,
    require_same_tasks,
    value_per_cost_within,
    value_within,
)
from tokenomics_plugin.statistics.judge import JudgedSample, JudgedValue
from tokenomics_plugin.statistics.log_ratio import bootstrap_t_interval, log_delta_interval
from tokenomics_plugin.statistics.mean import Mean, cluster_mean
from tokenomics_plugin.statistics.planning import Spread, design_effect
from tokenomics_plugin.statistics.proportion import clopper_pearson, clustered_wilson, rule_of_three, wilson
from tokenomics_plugin.statistics.randomised import RandomisedDecisions
from tokenomics_plugin.statistics.ratio import Ratio, ratio_of_sums
from tokenomics_plugin.statistics.reliability import cost_of_reliability, pass_at_k, pass_hat_k
from tokenomics_plugin.statistics.sample_size import (
    MAX_HALF_WIDTH,
    MAX_MISSING_SHARE,
    MIN_CLUSTERS,
    Badge,
    SampleSize,
    relative_half_width,
)
from tokenomics_plugin.statistics.standardised import Standardised, standardised_ratio

__all__ = [
    "MAX_HALF_WIDTH",
    "MAX_MISSING_SHARE",
    "MIN_CLUSTERS",
    "AttemptForecast",
    "AuditedStratum",
    "Badge",
    "BetaBinomial",
    "Bridge",
    "Calibrated",
    "Cohort",
    "CohortMismatchError",
    "ConfidenceSet",
    "CostOfPass",
    "Draw",
    "Flips",
    "Judged",
    "JudgedSample",
    "JudgedValue",
    "LateValue",
    "Mean",
    "MeanSequence",
    "PeriodTotals",
    "RandomisedDecisions",
    "Range",
    "Ratio",
    "RatioAt",
    "SampleSize",
    "SetShape",
    "Spread",
    "Standardised",
    "StepFunction",
    "SuccessTotals",
    "Trials",
    "bootstrap_t_interval",
    "bridge_of_cost",
    "bridge_of_value",
    "calibrate",
    "clopper_pearson",
    "cluster_mean",
    "clustered_wilson",
    "cost_of_pass",
    "cost_of_reliability",
    "decompose_product",
    "design_effect",
    "draw_spans",
    "excess_sequence",
    "fit_beta_binomial",
    "forecast_attempts",
    "kaplan_meier",
    "log_delta_interval",
    "manski_bounds",
    "mean_sequence",
    "pass_at_k",
    "pass_hat_k",
    "ratio_of_sums",
    "ratio_sequence",
    "relative_half_width",
    "require_same_tasks",
    "rule_of_three",
    "standardised_ratio",
    "value_per_cost_within",
    "value_within",
    "wilson",
]
