"""From traces to weights: what agents did well, as a set to fine-tune a model on.

`export_dataset` writes the conversations of tasks that succeeded and brought more than they cost, ranked by net value
per token, split by task. The texts are those that the application let out by opt-in, redacted as it decided.
"""

from tokenomics_plugin.dataset.choice import Reason, Worth
from tokenomics_plugin.dataset.conversation import Conversation, conversations
from tokenomics_plugin.dataset.export import DatasetError, DatasetExport, export_dataset, select_from
from tokenomics_plugin.dataset.selection import DatasetOptions, Line, Material, Selection, select
from tokenomics_plugin.dataset.split import Side, side_of

__all__ = [
    "Conversation",
    "DatasetError",
    "DatasetExport",
    "DatasetOptions",
    "Line",
    "Material",
    "Reason",
    "Selection",
    "Side",
    "Worth",
    "conversations",
    "export_dataset",
    "select",
    "select_from",
    "side_of",
]
