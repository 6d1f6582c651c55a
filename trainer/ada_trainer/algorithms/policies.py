"""Policies over several action groups at once: independent softmaxes, so that log-probabilities add up.

Logits are a tuple of [..., A_g], one for each group g; actions are int64 or int8 [..., G].
"""

import torch
from torch import Tensor

Logits = tuple[Tensor, ...]


def sample(logits: Logits, generator: torch.Generator) -> Tensor:
    """Draw one choice for each group; int64 [..., G]. By Gumbel's trick: argmax of logits plus Gumbel noise."""
    joined = torch.cat(logits, -1)
    noise = torch.empty_like(joined).exponential_(generator=generator).log_()
    perturbed = torch.split_with_sizes(joined - noise, [group.shape[-1] for group in logits], -1)
    return torch.stack([group.argmax(-1) for group in perturbed], -1)


def log_prob(logits: Logits, actions: Tensor) -> Tensor:
    """Return the log-probability [...] of actions [..., G]."""
    total = torch.zeros_like(logits[0][..., 0])
    for index, group in enumerate(logits):
        chosen = group.log_softmax(-1).gather(-1, actions[..., index, None].long())
        total = total + chosen[..., 0]
    return total


def entropy(logits: Logits) -> Tensor:
    """Return the entropy [...] in nats, summed over groups."""
    total = torch.zeros_like(logits[0][..., 0])
    for group in logits:
        log_probabilities = group.log_softmax(-1)
        total = total - (log_probabilities.exp() * log_probabilities).sum(-1)
    return total


def divergence(teacher: Logits, student: Logits) -> Tensor:
    """Return KL(teacher || student), [...], summed over groups."""
    total = torch.zeros_like(student[0][..., 0])
    for of_teacher, of_student in zip(teacher, student, strict=True):
        log_teacher = of_teacher.log_softmax(-1)
        total = total + (log_teacher.exp() * (log_teacher - of_student.log_softmax(-1))).sum(-1)
    return total
