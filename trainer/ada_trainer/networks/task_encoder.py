"""Goal and production rules to one vector.

They are lists of small integers (`ada_sim.tasks.encoding`). A sum of one embedding for each column is the same as
embeddings side by side and a linear layer, without the large matrix: for 16 rules of 26 columns AdA's natural reading
takes 3,328 x 512 weights. How AdA pools rules is not published; here each rule goes through the same network and the
results of the rules that exist are summed, so their order says nothing.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ada_sim.tasks.encoding import GOAL_FIELD_SIZES, RULE_FIELD_SIZES
from ada_trainer.networks.layers import RELU_GAIN, linear

PREDICATE_COLUMN = 1  # of a rule: 0 if there is no such rule


class Columns(nn.Module):
    """Rows of integers, [..., C], to the sum of their columns' embeddings, [..., E]."""

    offsets: Tensor

    def __init__(self, sizes: tuple[int, ...], embedding: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(sum(sizes), embedding) * len(sizes) ** -0.5)
        starts = torch.tensor([0, *sizes[:-1]]).cumsum(0)
        self.register_buffer("offsets", starts, persistent=False)

    def forward(self, rows: Tensor) -> Tensor:
        flat = rows.flatten(0, -2) + self.offsets
        return functional.embedding_bag(flat, self.table, mode="sum").view(*rows.shape[:-1], -1)


class TaskEncoder(nn.Module):
    """Goal int8 [N, 6] and rules int8 [N, 16, 26] to [N, D]."""

    def __init__(self, embedding: int, width: int) -> None:
        super().__init__()
        self.goal_columns = Columns(GOAL_FIELD_SIZES, embedding)
        self.rule_columns = Columns(RULE_FIELD_SIZES, embedding)
        self.rule_hidden = linear(embedding, embedding, RELU_GAIN)
        self.out = linear(2 * embedding, width)

    def forward(self, goal: Tensor, rules: Tensor) -> Tensor:
        exists = rules[..., PREDICATE_COLUMN] > 0
        in_use = exists.any(0).nonzero()
        used = int(in_use[-1]) + 1 if len(in_use) else 1  # rows beyond are empty in the whole batch
        hidden = functional.relu(self.rule_columns(rules[:, :used]))
        hidden = functional.relu(self.rule_hidden(hidden)) * exists[:, :used, None]
        out: Tensor = self.out(torch.cat([functional.relu(self.goal_columns(goal)), hidden.sum(-2)], -1))
        return out
