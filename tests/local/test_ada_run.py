"""`ada run` with the real programs: torch's elastic agents, sockets, stores, and kills."""

import os
import signal

import pytest

pytestmark = pytest.mark.timeout(900)  # torch starts several times, and a first start compiles the simulator

SMALL = {
    "seed": 1,
    "environment": {
        "observation": "symbolic",
        "trials": {"min": 1, "max": 2},
        "trialSeconds": [2],
        "actionGroups": ["move", "turn"],
        "world": {"size": {"min": 8, "max": 8}, "levels": {"min": 1, "max": 1}},
        "game": {"rules": {"min": 0, "max": 0}, "distractors": {"min": 0, "max": 0}, "deadEnds": {"min": 0, "max": 0}},
        "taskPool": {"worlds": 50, "games": 50},
    },
    "curriculum": {"method": "uniform"},
    "evaluation": {"tasks": 4, "trials": [1, 2]},
    "checkpoint": {"intervalSeconds": 1},
}


def stage(name, frames, **more):
    algorithm = {"unroll": 16, "worlds": 16, "minibatches": 2, "epochs": 1}
    return {"name": name, "model": {"core": "gru"}, "algorithm": algorithm, "frames": frames, **more}


def test_a_teacher_and_a_student_are_trained_evaluated_and_reported_over_a_ctrl_c(make_run):
    distillation = {"teacher": "teacher", "frames": 512}
    frames = 65_536  # enough that the first group can't finish before it hears of the Ctrl-C
    run = make_run({**SMALL, "stages": [stage("teacher", frames), stage("student", 512, distillation=distillation)]})
    first = run.start()
    run.wait_for(lambda: run.stage(0).get("frames", 0) >= 512, first)
    first.send_signal(signal.SIGINT)
    assert run.end_of(first) == 75, run.text()
    assert run.none_left()
    assert 512 <= run.stage(0)["checkpoint"]["frames"] < frames

    assert run.run() == 0, run.text()
    assert run.none_left()
    teacher, student = run.status()["stages"]
    assert (teacher["phase"], student["phase"]) == ("Succeeded", "Succeeded")
    assert (teacher["frames"], student["frames"]) == (frames, 512)
    assert teacher["generation"] == 2
    assert student["teacher"]["digest"] == teacher["checkpoint"]["digest"]
    assert [score["trials"] for score in student["evaluation"]] == [1, 2]
    assert "<html" in (run.directory / "report.html").read_text()[:1000].lower()
    assert f"report: {run.directory / 'report.html'}" in run.text()


def test_training_goes_on_whatever_is_killed(make_run):
    run = make_run({**SMALL, "stages": [stage("teacher", 10**12)], "failurePolicy": {"maxCodeFailures": 2}})
    started = run.start()
    for program in ("ada_curriculum", "rendezvous", "ada_sim", "ada-worker", "launch"):
        before = frames_and_commit(run, started)
        # A group that has just lost something else may have to meet again first.
        killed = run.wait_for(lambda program=program: run.processes(program), started)
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        run.wait_for(lambda killed=killed, program=program: set(run.processes(program)) - set(killed), started)
        # Work that was not committed may be lost; what was committed never is, and more follows.
        run.wait_for(lambda before=before: run.stage(0)["checkpoint"]["frames"] > before, started)

    before = run.stage(0)["checkpoint"]["frames"]
    started.kill()
    started.wait()
    assert run.none_left()
    again = run.start()
    run.wait_for(lambda: run.stage(0)["checkpoint"]["frames"] > before, again)
    again.send_signal(signal.SIGINT)
    assert run.end_of(again) == 75, run.text()
    assert run.none_left()


def frames_and_commit(run, process):
    """Wait until something is committed and the group trains; return the committed frames."""
    run.wait_for(lambda: run.status().get("phase") == "Training" and run.stage(0).get("checkpoint"), process)
    return run.stage(0)["checkpoint"]["frames"]
