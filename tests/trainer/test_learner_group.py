"""Muesli with all its options in two processes that add up over gloo: one agent; nobody steps where one can not."""

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__)


def worker(rank: int, meeting: str) -> dict[str, Any]:
    """Be one of two workers; return what the group must agree on after each update."""
    import torch
    import torch.distributed as dist

    from ada_api.stages import ContinualBackprop, Resets
    from ada_trainer.elastic.group import Group
    from ada_trainer.learner import Learner

    spec = importlib.util.spec_from_file_location("learner_parts", HERE.with_name("learner_parts.py"))
    assert spec is not None and spec.loader is not None
    parts = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(parts)
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    group = Group(rank, 2)
    algorithm = parts.ALGORITHM.model_copy(
        update={
            "muesli": parts.MUESLI.model_copy(update={"consistency_weight": 2.0, "center_advantages": True}),
            "reconstruction_weight": 0.5,
            "resets": Resets(times=1),
            "continual_backprop": ContinualBackprop(replacement_rate=0.05, maturity=2),
        }
    )
    ours = Learner(
        parts.network(), algorithm, seed=4, distillation_weight=1.0, rebuild=lambda: parts.network_anew(parts.MUESLI)
    )
    said: dict[str, Any] = {"digests": [], "reports": []}
    for index in range(4):
        told = parts.batch(ours, seed=10 * index + rank, worlds=5 + 3 * rank, teacher=True)
        if index == 1 and rank == 1:
            told = replace(told, reward=told.reward.index_fill(0, torch.tensor([3]), float("nan")))
            told.learn[3] = True
        report = ours.update(told, index / 4, group.sum)
        tensors = torch.cat([parts.parameters(ours.network), parts.parameters(ours.acting)])
        said["digests"].append(hashlib.sha256(tensors.numpy().tobytes()).hexdigest())
        said["reports"].append({**report.metrics(), "scale": parts.objective_of(ours).scale.deviation})
    said["skipped"], said["resets"] = ours.skipped_updates, ours.resets
    group.leave()
    return said


@pytest.mark.timeout(300)
def test_two_processes_are_one_learner_and_both_leave_out_an_update_that_one_can_not_take(tmp_path: Path) -> None:
    command = [sys.executable, str(HERE)]
    processes = [
        subprocess.Popen(
            [*command, str(rank), str(tmp_path / "meeting")],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        for rank in range(2)
    ]
    try:
        said = [process.communicate(timeout=240)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert [process.returncode for process in processes] == [0, 0]
    one, other = (json.loads(text.splitlines()[-1]) for text in said)
    assert one["digests"] == other["digests"]
    assert len(set(one["digests"])) == 3, "one of four updates changed nothing"
    assert one["digests"][0] == one["digests"][1] and one["skipped"] == other["skipped"] == 1
    assert [report["skipped"] for report in one["reports"]] == [0, 1, 0, 0]
    assert one["reports"] == other["reports"] and one["resets"] == other["resets"] == 1


if __name__ == "__main__":
    print(json.dumps(worker(int(sys.argv[1]), sys.argv[2])))
