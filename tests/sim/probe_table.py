"""Prints the table of docs/probe-tasks.md: how each probe task is solved, how soon, and a wrong behaviour that fails.

.venv/bin/python tests/sim/probe_table.py
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import test_tasks_probes_played as played
import test_tasks_solved_by_script as planned

from ada_sim.constants import TIMESTEP_S
from ada_sim.tasks.probes import probe, probe_names


def row(name: str) -> str:
    """Play a probe task rightly and wrongly, and return its line."""
    task = probe(name)
    parts = played.SOLVED_BY.get(name)
    if parts is not None:
        rewards = played.play_trial(task, parts, until_goal=name not in played.KEEP)
        by, timesteps = "parts", len(rewards) if rewards.any() else None
    elif name in planned.NOT_BY_SCRIPT:
        by, timesteps = "plan with a detour", planned.timesteps_to_goal(task, detour=(0, 1))
    else:
        by, timesteps = "plan", planned.timesteps_to_goal(task)
    soon = "never" if timesteps is None else f"{timesteps * TIMESTEP_S:.1f} s"
    if name in played.KEEP:
        soon = f"{rewards.mean():.0%} of the time"
    wrong = played.FAILED_BY[name]
    share = played.play_trial(task, wrong, until_goal=False).mean()
    words = ["; ".join(step.__name__ for step in part) or "rest" for part in wrong]
    said = " / ".join(word for word in words if word != "rest 1")
    return f"| {name} | {by} | {soon} | {said} | {share:.0%} |"


if __name__ == "__main__":
    print("| probe task | solved by | in the goal after | wrong behaviour | its share of the time in the goal |")
    print("|---|---|---|---|---|")
    for probe_name in (*probe_names(1), *probe_names(2)):
        print(row(probe_name))
