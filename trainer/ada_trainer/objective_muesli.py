"""Muesli as the learner's objective (Hessel et al., 2021; as used in AdA, appendix C).

    targets, once a batch, all by the target network, which also acted:
        q(s, a) = r_1 + discount v_1, one step of its model                                 (14)
        G = Retrace from q, with E[q] over N actions of the prior                           retrace.py
        scale = moving root mean square of G - v                                            policy_gradient.py
        pi_CMPO from the same N actions, with (q - v) / scale                               cmpo.py
    loss, with the model unrolled K steps from the timesteps along the actions taken:
        policy gradient with (G - v) / scale at the root                                    (9, 10)
      + KL(pi_CMPO || pi) at the root, and its mean over the K steps                        (13)
      + two-hot cross-entropy of the value to G, at the root and its mean over the K steps  two_hot.py
      + two-hot cross-entropy of the reward, mean over the K steps
      + KL(teacher || pi) at the root and its mean over the K steps, while there is a teacher
      - entropy at the root, which Muesli has not: an entropyWeight of 0 turns it off
    and, if wanted, a clip range and centred advantages of the policy gradient (docs/decisions/0010), and
    self_supervision.py:
      + consistency of the model's states with the roots they are about, mean over the K steps
      + reconstruction of the observation, at the root and its mean over the K steps

After each step of the optimiser the target network moves towards the learner's. What of Muesli is not here: replay, and
the leave-one-out baseline of its appendix A, which the Retrace ratios near 1 of fresh experience hardly need.
"""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ada_api.stages import Algorithm
from ada_trainer.algorithms import cmpo, policies, self_supervision, two_hot
from ada_trainer.algorithms.model_unroll import ModelStep, model_steps
from ada_trainer.algorithms.policy_gradient import AdvantageScale, policy_gradient_loss
from ada_trainer.algorithms.retrace import retrace
from ada_trainer.batch import Batch
from ada_trainer.networks.agent import AgentNetwork
from ada_trainer.networks.latent_model import LatentModel
from ada_trainer.networks.self_supervision import Decoder, Projection
from ada_trainer.objective import Reduce

# How many states are looked ahead from at once: on a CPU what comes of them stays in the cache.
STATES_ON_CPU, STATES_ON_DEVICE = 512, 8192


@dataclass(frozen=True, slots=True)
class MuesliTargets:
    """What a batch is learned towards."""

    returns: Tensor  # [T, B]
    advantage: Tensor  # [T, B], of the actions taken, scaled
    choice_weights: Tensor  # [T, B, sum of A_g]: the weight of each choice under pi_CMPO


@dataclass(frozen=True, slots=True)
class LookAhead:
    """What the target network's model says of S states."""

    value: Tensor  # [S]
    actions: Tensor  # int64 [N, S, G], drawn from the prior
    q: Tensor  # [N, S]
    q_taken: Tensor  # [S]
    log_prob_taken: Tensor  # [S], under the target network's policy


class MuesliObjective:
    """Losses of the learner's network towards what the target network and its model say."""

    terms: tuple[str, ...] = (
        "loss",
        "policy_loss",
        "value_loss",
        "entropy",
        "distillation_loss",
        "cmpo_loss",
        "reward_loss",
        "model_policy_loss",
        "model_value_loss",
    )

    def __init__(self, network: AgentNetwork, algorithm: Algorithm, distillation_weight: float) -> None:
        """Learn with the network, which must have a model; the target network begins as its copy."""
        if network.model is None:
            raise ValueError("muesli needs a network with a model: build it with muesli=")
        self._network = network
        self._algorithm = algorithm
        self._settings = algorithm.muesli
        self._distillation_weight = distillation_weight
        self.target = copy.deepcopy(network).requires_grad_(False)
        self.scale = AdvantageScale()
        self.auxiliary = nn.ModuleDict()
        width, device = network.model.width, network.rest.device
        if self._settings.consistency_weight > 0:
            self.terms = (*self.terms, "consistency_loss")
            self._projection = Projection(2 * width).to(device)
            self.auxiliary["projection"] = self._projection
        if algorithm.reconstruction_weight > 0:
            self.terms = (*self.terms, "reconstruction_loss")
            self._decoder = Decoder(width, network.shapes).to(device)
            self.auxiliary["decoder"] = self._decoder

    def prepare(self, batch: Batch, reduce: Reduce, seed: int) -> MuesliTargets:
        """Return the targets of a batch; the scale of advantages follows the whole group's."""
        assert batch.roots is not None, "the batch was collected by a network without a model"
        with torch.no_grad():
            return self._prepare(batch, batch.roots, reduce, seed)

    def _prepare(self, batch: Batch, roots: Tensor, reduce: Reduce, seed: int) -> MuesliTargets:
        algorithm, settings = self._algorithm, self._settings
        T, B = batch.reward.shape
        generator = torch.Generator(roots.device).manual_seed(seed)
        taken = batch.actions[..., self._network.groups]
        taken = torch.cat([taken, taken[-1:]])  # none was taken after the unroll: that row is not used
        ahead = self._look_ahead(roots.flatten(0, 1), taken.flatten(0, 1), generator)
        value = ahead.value.view(T + 1, B)[:-1]
        returns = retrace(
            batch.reward,
            batch.continues,
            ahead.q.mean(0).view(T + 1, B),
            ahead.q_taken.view(T + 1, B)[:-1],
            ahead.log_prob_taken.view(T + 1, B)[:-1] - batch.log_prob,
            discount=algorithm.discount,
            trace_decay=algorithm.trace_decay,
        )
        used = (returns - value)[batch.learn].double()
        moments = torch.stack([torch.ones_like(used).sum(), used.sum(), used.square().sum()])
        count, total, squares = reduce(moments).tolist()
        deviation = math.nan  # where a return of any worker is not finite: no minibatch is then learned from
        if math.isfinite(squares):
            if count > 0:
                self.scale = self.scale.seen(squares / count, settings.variance_decay**algorithm.minibatches)
            deviation = self.scale.deviation
        before_end = T * B  # states within the unroll
        weights = cmpo.sample_weights((ahead.q - ahead.value)[:, :before_end] / deviation, settings.clip)
        choice_weights = cmpo.choice_weights(ahead.actions[:, :before_end], weights, self._network.choices)
        mean = total / max(count, 1) if settings.center_advantages else 0.0
        return MuesliTargets(returns, (returns - value - mean) / deviation, choice_weights.view(T, B, -1))

    def _look_ahead(self, roots: Tensor, taken: Tensor, generator: torch.Generator) -> LookAhead:
        """Look one step ahead from states [S, 2 W], with drawn actions and with those taken, [S, G]."""
        parts = list(self._look_ahead_parts(roots, taken, generator))
        return LookAhead(
            value=torch.cat([part.value for part in parts]),
            actions=torch.cat([part.actions for part in parts], 1),
            q=torch.cat([part.q for part in parts], 1),
            q_taken=torch.cat([part.q_taken for part in parts]),
            log_prob_taken=torch.cat([part.log_prob_taken for part in parts]),
        )

    def _look_ahead_parts(self, roots: Tensor, taken: Tensor, generator: torch.Generator) -> Iterator[LookAhead]:
        model, settings = _model(self.target), self._settings
        behaviour = settings.behaviour_share
        shares = (1 - behaviour - settings.uniform_share, behaviour)
        size = STATES_ON_CPU if roots.device.type == "cpu" else STATES_ON_DEVICE
        for state, action in zip(torch.split(roots, size), torch.split(taken, size), strict=True):
            logits = model.policy(state)
            # The target network acted, so the behaviour policy is its own as long as no replay is learned from.
            drawn = cmpo.sample_prior((logits, logits), shares, settings.samples, generator)
            after = model.step(state, torch.cat([drawn, action[None].long()]))
            q = model.reward(after) + self._algorithm.discount * model.value(after)
            yield LookAhead(model.value(state), drawn, q[:-1], q[-1], policies.log_prob(logits, action))

    def loss(
        self, batch: Batch, targets: MuesliTargets, worlds: Tensor, count: float, index: int
    ) -> tuple[Tensor, ...]:
        """Return the terms of a minibatch, in the order of `terms`."""
        network, settings = self._network, self._settings
        model = _model(network)
        observation = {name: field.index_select(1, worlds) for name, field in batch.observation.items()}
        roots = network.unroll_roots(observation, network.select(batch.state, worlds), batch.clear[:, worlds])
        actions = batch.actions[:, worlds][..., network.groups]
        weight = batch.learn[:, worlds] / count
        returns, choice_weights = targets.returns[:, worlds], targets.choice_weights[:, worlds]
        teacher = None if batch.teacher is None else batch.teacher[:, worlds]

        logits = model.policy(roots)
        log_prob = policies.log_prob(logits, actions)
        gradient = policy_gradient_loss(
            log_prob, batch.log_prob[:, worlds], targets.advantage[:, worlds], settings.policy_gradient_clip
        )
        policy = (weight * gradient).sum()
        root_cmpo = (weight * cmpo.cmpo_loss(choice_weights, logits)).sum()
        root_value = (weight * two_hot.cross_entropy(model.value_logits(roots), returns, model.value_range)).sum()
        entropy = (weight * policies.entropy(logits)).sum()
        distillation = torch.zeros_like(policy)
        if teacher is not None:
            distillation = (weight * self._divergence(teacher, logits)).sum()

        starts = torch.arange(index % settings.model_stride, len(roots), settings.model_stride, device=roots.device)
        steps = model_steps(starts, batch.continues[:, worlds], settings.model_unroll)
        states, state = [], roots[starts]
        for step in steps:
            state = model.step(state, actions[step.reward_time])
            states.append(state)
        share = weight[starts] * (settings.model_stride / len(steps))
        unrolled_states = torch.stack(states)
        unrolled = self._model_terms(
            unrolled_states, steps, share, batch.reward[:, worlds], returns, choice_weights, teacher
        )
        model_policy, model_value, reward, model_distillation = unrolled
        distillation = distillation + model_distillation
        loss = (
            settings.policy_gradient_weight * policy
            + settings.cmpo_weight * (root_cmpo + model_policy)
            + settings.value_weight * (root_value + model_value)
            + settings.reward_weight * reward
            + self._distillation_weight * distillation
            - self._algorithm.entropy_weight * entropy
        )
        own = self._self_supervised(roots, unrolled_states, steps, weight, share, observation)
        for part_weight, part in own:
            loss = loss + part_weight * part
        told = (policy, root_value, entropy, distillation, root_cmpo, reward, model_policy, model_value)
        return loss, *told, *(part for _, part in own)

    def _self_supervised(
        self,
        roots: Tensor,
        states: Tensor,
        steps: list[ModelStep],
        weight: Tensor,
        share: Tensor,
        observation: dict[str, Tensor],
    ) -> list[tuple[float, Tensor]]:
        """Return the options' terms with their weights, of roots [T, B, 2 W] and the model's states [K, S, B, 2 W]."""
        if not self.auxiliary:
            return []
        own, width = list[tuple[float, Tensor]](), _model(self._network).width
        time = torch.stack([step.time for step in steps])
        of_step = share * torch.stack([step.value_known * step.after_end for step in steps])  # seen, same episode
        if "projection" in self.auxiliary:
            target = self._projection.target(roots)[time]
            errors = self_supervision.consistency_loss(self._projection(states), target)
            own.append((self._settings.consistency_weight, (of_step * errors).sum()))
        if "decoder" in self.auxiliary:
            wanted = self._decoder.wanted(observation)
            of_root = self_supervision.reconstruction_loss(self._decoder(roots[..., :width]), wanted)
            of_model = self_supervision.reconstruction_loss(self._decoder(states[..., :width]), wanted[time])
            part = (weight * of_root).sum() + (of_step * of_model).sum()
            own.append((self._algorithm.reconstruction_weight, part))
        return own

    def _model_terms(
        self,
        states: Tensor,
        steps: list[ModelStep],
        share: Tensor,
        reward: Tensor,
        returns: Tensor,
        choice_weights: Tensor,
        teacher: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return policy, value, reward and distillation of the model's states [K, S, B, 2 W]; share is [S, B]."""
        model = _model(self._network)
        time = torch.stack([step.time for step in steps])  # [K, S]
        before_end = torch.stack([step.before_end for step in steps])
        after_end = torch.stack([step.after_end for step in steps])
        of_reward = share * torch.stack([step.reward_known for step in steps])
        of_value = share * torch.stack([step.value_known for step in steps])
        of_policy = of_value * after_end
        logits = model.policy(states)
        policy = (of_policy * cmpo.cmpo_loss(choice_weights[time], logits)).sum()
        wanted = returns[time] * after_end
        value = (of_value * two_hot.cross_entropy(model.value_logits(states), wanted, model.value_range)).sum()
        wanted = reward[torch.stack([step.reward_time for step in steps])] * before_end
        rewards = (of_reward * two_hot.cross_entropy(model.reward_logits(states), wanted, model.value_range)).sum()
        distillation = torch.zeros_like(policy)
        if teacher is not None:
            distillation = (of_policy * self._divergence(teacher[time], logits)).sum()
        return policy, value, rewards, distillation

    def _divergence(self, teacher: Tensor, logits: policies.Logits) -> Tensor:
        return policies.divergence(torch.split_with_sizes(teacher, self._network.choices, -1), logits)

    def stepped(self) -> None:
        """Move the target network towards the learner's."""
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self.target.parameters()), list(self._network.parameters()), self._settings.target_rate
            )

    def state_dict(self) -> dict[str, Any]:
        """Return the scale of advantages. The target network is the learner's to keep: it is the one that acts."""
        return {"square": self.scale.square, "weight": self.scale.weight}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with this scale."""
        self.scale = AdvantageScale(square=float(state["square"]), weight=float(state["weight"]))


def _model(network: AgentNetwork) -> LatentModel:
    assert network.model is not None
    return network.model
