"""The outcome of an evaluation as it stands in the store: `evaluations/STAGE.json`."""

import json
from dataclasses import asdict, dataclass, field

import numpy as np

from ada_api.progress import TrialScore
from ada_trainer.evaluation.statistics import Interval, Summary, paired_difference, summarise

AGENT = "agent"
CLEARED = "memory cleared every trial"
RANDOM = "random"
NOOP = "no-op"
BESIDE_RANDOM = "agent beside a random player"  # in tasks of two players; AGENT plays both seats


@dataclass(frozen=True)
class Evaluation:
    """Last-trial scores of every agent: `scores[agent][k]` is [tasks], share of the last trial spent in the goal.

    `probes[name][k]` is [episodes], the agent's on a probe task; empty if they were not asked for.
    """

    stage: str
    frames: int
    checkpoint_digest: str
    tasks: tuple[int, ...]
    scores: dict[str, dict[int, np.ndarray]]
    seconds: float
    probes: dict[str, dict[int, np.ndarray]] = field(default_factory=dict)

    def summary(self, agent: str, trials: int) -> Summary:
        """Summarise one agent's scores in episodes of `trials` trials."""
        return summarise(self.scores[agent][trials])

    def trial_scores(self) -> list[TrialScore]:
        """Return what the progress page shows: the agent's summary by number of trials."""
        summaries = {k: self.summary(AGENT, k) for k in sorted(self.scores[AGENT])}
        return [
            TrialScore(trials=k, median=s.median.value, mean=s.mean.value, percentile20=s.percentile20.value)
            for k, s in summaries.items()
        ]

    def gain_from_trials(self) -> Interval | None:
        """Return mean(score at the claim's k - score at 1 trial), paired by task, if both were played."""
        k = self.claim_trials()
        return (
            paired_difference(self.scores[AGENT][k], self.scores[AGENT][1]) if k and 1 in self.scores[AGENT] else None
        )

    def gain_from_memory(self) -> Interval | None:
        """Return mean(score - score with the memory cleared at every trial) at the claim's k, paired by task."""
        k = self.claim_trials()
        return paired_difference(self.scores[AGENT][k], self.scores[CLEARED][k]) if k else None

    def claim_trials(self) -> int | None:
        """Return 5 if it was played, else the most trials above one, else None."""
        several = [k for k in self.scores[AGENT] if k > 1]
        return 5 if 5 in several else max(several, default=None)

    def to_json(self) -> bytes:
        """Encode, scores and summaries both, so that a reader needs no code of ours."""
        intervals = {"gain_from_trials": self.gain_from_trials(), "gain_from_memory": self.gain_from_memory()}
        document = {
            "stage": self.stage,
            "frames": self.frames,
            "checkpoint_digest": self.checkpoint_digest,
            "unit": "share of the last trial's time in which the goal holds",
            "claim_trials": self.claim_trials(),
            "summary": {a: {str(k): asdict(self.summary(a, k)) for k in by_k} for a, by_k in self.scores.items()},
            **{name: asdict(interval) if interval else None for name, interval in intervals.items()},
            "seconds": round(self.seconds, 2),
            "tasks": [str(task) for task in self.tasks],
            "scores": _encoded(self.scores),
            "probes": _encoded(self.probes),
        }
        return json.dumps(document, indent=1).encode()

    @classmethod
    def from_json(cls, data: bytes) -> "Evaluation":
        """Decode what `to_json` wrote."""
        document = json.loads(data)
        return cls(
            stage=document["stage"],
            frames=document["frames"],
            checkpoint_digest=document["checkpoint_digest"],
            tasks=tuple(int(task) for task in document["tasks"]),
            scores=_decoded(document["scores"]),
            seconds=document["seconds"],
            probes=_decoded(document.get("probes", {})),
        )


def _encoded(scores: dict[str, dict[int, np.ndarray]]) -> dict[str, dict[str, list[float]]]:
    return {
        name: {str(k): [round(float(s), 6) for s in values] for k, values in by_k.items()}
        for name, by_k in scores.items()
    }


def _decoded(document: dict[str, dict[str, list[float]]]) -> dict[str, dict[int, np.ndarray]]:
    return {
        name: {int(k): np.array(values, np.float64) for k, values in by_k.items()} for name, by_k in document.items()
    }
