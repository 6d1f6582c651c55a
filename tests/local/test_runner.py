"""The runner with stand-ins for the programs: restarts, refusals, Ctrl-C, kills, and nothing left behind."""

import json
import os
import signal

import pytest

pytestmark = pytest.mark.timeout(120)  # stand-ins need ten seconds; waiting longer only hides what is wrong


def test_a_run_goes_through_its_stages_and_leaves_no_process(make_run):
    run = make_run(stages=2)
    assert run.run() == 0, run.text()
    assert [stage["phase"] for stage in run.status()["stages"]] == ["Succeeded", "Succeeded"]
    assert (run.directory / "report.html").exists()
    assert "0.250" in run.text()
    assert run.none_left()


def test_a_finished_run_started_again_changes_nothing(make_run):
    run = make_run()
    assert run.run() == 0, run.text()
    before = {path: path.read_bytes() for path in (run.directory / "store").rglob("*") if path.is_file()}
    assert run.run() == 0
    assert before == {path: path.read_bytes() for path in (run.directory / "store").rglob("*") if path.is_file()}


def test_a_second_run_on_the_same_directory_is_refused(make_run):
    run = make_run()
    first = run.start()
    run.wait_for(lambda: (run.directory / "status.json").exists(), first)
    assert run.run() == 2
    assert f"in use by another `ada run` (process {first.pid})" in run.text()
    first.send_signal(signal.SIGINT)
    run.end_of(first)


def test_ctrl_c_commits_and_the_next_run_goes_on_from_there(make_run):
    run = make_run()
    first = run.start()
    run.wait_for(lambda: run.stage(0).get("frames", 0) >= 7, first)
    first.send_signal(signal.SIGINT)
    assert run.end_of(first) == 75, run.text()
    assert run.none_left()
    stored = json.loads((run.directory / "store" / "state.json").read_text())
    assert stored["teacher"]["checkpoint"]["frames"] >= 7
    assert "the same command goes on from frame" in run.text()
    assert run.run() == 0, run.text()
    assert run.stage(0)["generation"] == 2


def test_a_second_ctrl_c_kills(make_run):
    run = make_run()
    first = run.start()
    run.wait_for(lambda: run.processes("train"), first)
    first.send_signal(signal.SIGINT)
    first.send_signal(signal.SIGINT)
    assert run.end_of(first) == 75
    assert run.none_left()


@pytest.mark.parametrize("words", [("ada_curriculum", "rendezvous", "ada_sim"), ("launch",), ("train",)])
def test_programs_that_are_killed_are_started_again_and_the_run_succeeds(make_run, words):
    run = make_run()
    started = run.start()
    run.wait_for(lambda: run.stage(0).get("frames", 0) >= 6, started)
    killed = [pid for word in words for pid in run.processes(word)]
    assert len(killed) == len(words)
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    assert run.end_of(started) == 0, run.text()
    assert run.none_left()


def test_killing_a_pods_first_process_takes_the_pod_with_it(make_run):
    run = make_run(FAKE_TRAINER="stubborn")
    started = run.start()
    (worker,) = run.wait_for(lambda: run.processes("train"), started)
    for pid in run.inits("launch"):
        os.kill(pid, signal.SIGKILL)
    run.wait_for(lambda: worker not in run.processes("train"), started)
    started.send_signal(signal.SIGINT)
    started.send_signal(signal.SIGINT)
    assert run.end_of(started) == 75
    assert run.none_left()


def test_nothing_outlives_a_run_that_is_killed_and_the_next_one_goes_on(make_run):
    run = make_run()
    first = run.start()
    run.wait_for(lambda: run.stage(0).get("frames", 0) >= 6, first)
    first.kill()
    first.wait()
    assert run.none_left()
    assert run.run() == 0, run.text()
    assert run.none_left()


def test_a_configuration_that_cannot_work_fails_at_once_with_the_programs_last_line(make_run):
    run = make_run(FAKE_CURRICULUM="misconfigured")
    assert run.run() == 1
    assert "ConfigurationError" in run.text()
    assert "the bucket ada refuses these credentials" in run.text()
    assert run.none_left()


def test_crashes_beyond_the_budget_fail_the_run_and_are_quoted(make_run):
    run = make_run(FAKE_TRAINER="crash")
    assert run.run() == 1
    assert "TooManyFailures" in run.text()
    assert "the reward is a string" in run.text()
    assert run.status()["stages"][0]["restarts"]["code"] == 2
    assert run.none_left()


def test_a_failed_run_is_tried_again_when_it_is_started_again(make_run):
    run = make_run(FAKE_TRAINER="crash")
    assert run.run() == 1
    del run.environment["FAKE_TRAINER"]
    assert run.run() == 0, run.text()
