"""A life in which things go wrong, each once: a roll-back of the teacher, a crash and a suspension of the student."""

import time
from dataclasses import dataclass, field
from typing import Any

from tests.control_plane.life import FRAMES, NAME, SETTINGS, Life, annotate
from tests.control_plane.life import experiment as plain

from ada_operator.cluster import EXPERIMENTS, PODS
from ada_operator.observed import Manifest

COMMITS = (250, 500)  # of the teacher's first group, which then learns what is not finite
NOT_FINITE = 20  # updates in all, as many as make a group be given up
SUSPENDED_AT = 1100  # frames


def experiment(namespace: str) -> Manifest:
    """Return the experiment of a plain life, with a budget for what goes wrong."""
    found = plain(namespace)
    found["spec"]["failurePolicy"] = {"maxCodeFailures": 3}
    return found


@dataclass
class TroubledLife(Life):
    """Goes on with each step only when the status shows the one before."""

    resumed: dict[str, str] = field(default_factory=dict)  # where groups started that did not start at the newest
    crashed: bool = False
    suspended: bool = False

    async def _train(self, stage: str, job: Manifest | None) -> None:
        shown = next((one for one in self.status.get("stages", []) if one["name"] == stage), {})
        if stage == "student":
            await self._suspend_and_resume()
        if job is None or job["status"].get("ready", 0) < job["spec"]["parallelism"]:
            return
        known, generation = self._known(stage), int(job["metadata"]["annotations"]["ada.dev/generation"])
        if known.get("generation", 0) < generation:
            self._begin(stage, known, job, generation)
        elif stage == "teacher":
            await self._teach(known, shown)
        else:
            await self._study(known, shown, job)

    def _begin(self, stage: str, known: dict[str, Any], job: Manifest, generation: int) -> None:
        command = job["spec"]["template"]["spec"]["containers"][0]["command"]
        if "--resume-uri" in command:
            self.resumed[f"{stage} {generation}"] = command[command.index("--resume-uri") + 1]
        frames = COMMITS[0] if generation == 1 or stage == "teacher" else SUSPENDED_AT
        known |= {"generation": generation, "phase": "training", "frames": frames, "updates": 10}
        if stage == "teacher" and generation == 1:
            known["checkpoint"] = self._commit(stage, frames)
        known["last_progress"] = time.time()

    async def _teach(self, known: dict[str, Any], shown: dict[str, Any]) -> None:
        if self.status["phase"] != "Training" or known["phase"] == "trained":
            return
        if known["generation"] == 2:
            if shown["frames"] == COMMITS[0]:
                await self._finish("teacher", known)
        elif shown["checkpoint"]["frames"] == COMMITS[1]:
            known |= {"skipped_updates": NOT_FINITE}
        elif shown["frames"] == COMMITS[0] and known["frames"] == COMMITS[0]:
            known |= {"frames": COMMITS[1], "checkpoint": self._commit("teacher", COMMITS[1])}
        known["last_progress"] = time.time()

    async def _study(self, known: dict[str, Any], shown: dict[str, Any], job: Manifest) -> None:
        if known["phase"] != "training" or shown.get("frames") != known["frames"] or self.suspended:
            if known["generation"] == 2 and known["phase"] == "training" and shown.get("frames") == SUSPENDED_AT:
                await self._finish("student", known)
            return
        if not self.crashed:
            labels = {"ada.dev/part": "trainer", "ada.dev/stage": "student"}
            pods = await self.cluster.list(PODS, self.namespace, labels)
            await annotate(self.cluster, pods[0], {"test.ada.dev/exit": "1"})
            self.crashed = True
        elif shown["restarts"]["code"] == 1 and known["frames"] < 1000:
            known |= {"frames": 1000, "checkpoint": self._commit("student", 1000)}
        elif shown.get("checkpoint", {}).get("frames") == 1000:
            self.suspended = True
            await self._set_suspend(True)
        known["last_progress"] = time.time()

    async def _suspend_and_resume(self) -> None:
        known = self._known("student")
        if known.get("phase") == "committing" and known["checkpoint"]["frames"] < SUSPENDED_AT:
            commit = self._commit("student", SUSPENDED_AT)
            known |= {"frames": SUSPENDED_AT, "checkpoint": {**commit, "time": time.time() + 2.0}}
            labels = {"ada.dev/part": "trainer", "ada.dev/stage": "student"}
            for pod in await self.cluster.list(PODS, self.namespace, labels):
                await annotate(self.cluster, pod, {"test.ada.dev/exit": "75"})
        if self.status.get("phase") == "Suspended" and await self.children() == SETTINGS:
            await self._set_suspend(False)

    async def _finish(self, stage: str, known: dict[str, Any]) -> None:
        frames = FRAMES[stage]
        known |= {"frames": frames, "checkpoint": self._commit(stage, frames), "phase": "trained"}
        known["last_progress"] = time.time()
        await self._end_pods("trainer", stage)

    async def _set_suspend(self, suspend: bool) -> None:
        path = EXPERIMENTS.path(self.namespace, NAME)
        body = {"spec": {"suspend": suspend}}
        await self.cluster._request("PATCH", path, {}, body, "application/merge-patch+json")

    async def end(self) -> dict[str, Any]:
        """Return how everything stands, and where groups started that did not start at the newest commit."""
        return {**await super().end(), "resumed": self.resumed}
