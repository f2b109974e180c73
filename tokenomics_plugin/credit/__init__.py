"""Which components earn their cost: credit over many runs, the slice of one, and what a switch does.

Three questions, three kinds of data:

- *What did this run's answer rest on?* One trace: `backward_slice`, a band of cost and no ranking inside it.
- *What is each component worth?* Runs whose components were switched before they began: exactly, where each
  coalition's worth is known (`shapley`, `owen`, `banzhaf`); from replays (`replay_every_coalition`,
  `replay_orders`); from randomised production (`one_pass_shapley`). What to drop: `leave_one_out_net`.
- *What does one switch do?* `randomised_effect`, where chance was logged; where it was not, only an `Association`.
  Whether to draw lots at all: `experiment_worth`.

Runs are columns of `numpy` arrays; money is in one currency throughout.
"""

from tokenomics_plugin.credit.dropping import Arm, LeaveOneOutNet, Verdict, leave_one_out_net
from tokenomics_plugin.credit.effects import Association, RandomisedEffect, adjusted_association, randomised_effect
from tokenomics_plugin.credit.exact import banzhaf, interactions, leave_one_out, owen, shapley
from tokenomics_plugin.credit.experiments import ExperimentWorth, experiment_worth, regret_bound
from tokenomics_plugin.credit.games import Game, GameError, Unions, net_game
from tokenomics_plugin.credit.randomised import CoalitionDraws, draw_each_alone, draw_sizes_alike, one_pass_shapley
from tokenomics_plugin.credit.replays import Replay, Replayed, Stopped, replay_every_coalition, replay_orders
from tokenomics_plugin.credit.run_flow import RunFlow, evidence_of, run_flow
from tokenomics_plugin.credit.shares import Credit, Outcomes
from tokenomics_plugin.credit.slices import (
    CostBand,
    Evidence,
    Flow,
    Slice,
    SliceError,
    backward_slice,
    forward_slice,
)

__all__ = [
    "Arm",
    "Association",
    "CoalitionDraws",
    "CostBand",
    "Credit",
    "Evidence",
    "ExperimentWorth",
    "Flow",
    "Game",
    "GameError",
    "LeaveOneOutNet",
    "Outcomes",
    "RandomisedEffect",
    "Replay",
    "Replayed",
    "RunFlow",
    "Slice",
    "SliceError",
    "Stopped",
    "Unions",
    "Verdict",
    "adjusted_association",
    "backward_slice",
    "banzhaf",
    "draw_each_alone",
    "draw_sizes_alike",
    "evidence_of",
    "experiment_worth",
    "forward_slice",
    "interactions",
    "leave_one_out",
    "leave_one_out_net",
    "net_game",
    "one_pass_shapley",
    "owen",
    "randomised_effect",
    "regret_bound",
    "replay_every_coalition",
    "replay_orders",
    "run_flow",
    "shapley",
]
