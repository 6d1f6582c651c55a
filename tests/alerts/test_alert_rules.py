"""Every alert fires when it should, and is silent when all is well and while the experiment is suspended."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from tests.alerts.promtool import RULES, alerts, program, sped_up  # noqa: E402

MINUTES = 120
E, S = 'experiment="n/x"', 'experiment="n/x",stage="teacher"'
R = f'{S},rank="0",pod="a"'
# What promtool's series say: 1x5 is six ones, 0+2x3 is 0 2 4 6, _ is nothing, "stale" ends a series.
STEADY = f"0+1000x{MINUTES}"


def constant(value, minutes=MINUTES):
    return f"{value}x{minutes}"


def then(first, second, minutes=20):
    """Return `first` for most of the time and `second` for the last minutes."""
    return f"{first}x{MINUTES - minutes - 1} {second}x{minutes}"


def phase(now):
    return {f'ada_experiment_phase{{{E},phase="{one}"}}': constant(int(one == now)) for one in PHASES}


PHASES = ("Starting", "Training", "Evaluating", "Suspended")
NODES = {f"ada_experiment_nodes_min{{{E}}}": constant(2)}
INTERVAL = {f"ada_experiment_checkpoint_interval_seconds{{{E}}}": constant(600)}
COLLECTED = {f'ada_trainer_time_seconds_total{{{R},part="collect"}}': f"0+60x{MINUTES}"}


# Of an alert: series under which it fires and under which it is silent. Phases are added.
TRAINING = {
    "AdaNoProgress": (
        {f"ada_experiment_frames{{{S}}}": then(5, 7, 30)},
        {f"ada_experiment_frames{{{S}}}": STEADY},
    ),
    "AdaThroughputHalved": (
        {f"ada_experiment_frames_per_second{{{S}}}": then(1000, 400, 25)},
        {f"ada_experiment_frames_per_second{{{S}}}": then(1000, 600, 25)},
    ),
    "AdaCheckpointTooOld": (
        {**INTERVAL, f"ada_trainer_uncommitted_seconds{{{R}}}": then(30, 1900)},
        {**INTERVAL, f"ada_trainer_uncommitted_seconds{{{R}}}": then(30, 1700)},
    ),
    "AdaBelowMinNodes": (
        {**NODES, f"ada_experiment_nodes_ready{{{E}}}": then(4, 1)},
        {**NODES, f"ada_experiment_nodes_ready{{{E}}}": then(4, 2)},
    ),
    "AdaCurriculumCollapsed": (
        {
            f"ada_curriculum_recent_tasks{{{S}}}": then(200, 3, 40),
            f"ada_curriculum_recent_episodes{{{S}}}": constant(512),
        },
        {
            f"ada_curriculum_recent_tasks{{{S}}}": constant(3),
            f"ada_curriculum_recent_episodes{{{S}}}": constant(500),  # too few to tell
            f'ada_curriculum_fitness{{{S},quantile="0.0"}}': constant(-0.5),
            f'ada_curriculum_fitness{{{S},quantile="1.0"}}': constant(3),
            f"ada_curriculum_archive_tasks{{{S}}}": constant(100),
        },
    ),
    "AdaScoreRegressed": (
        {f"ada_experiment_score{{{S}}}": then(0.5, 0.2, 60)},
        {f"ada_experiment_score{{{S}}}": then(0.5, 0.4, 60)},
    ),
    "AdaDistillationDiverging": (
        {f"ada_trainer_teacher_kl_nats{{{R}}}": then(0.3, 0.9, 60)},
        {f"ada_trainer_teacher_kl_nats{{{R}}}": then(0.3, 0.5, 60)},
    ),
    "AdaSimulatorsStarving": (
        {**COLLECTED, f"ada_trainer_simulator_wait_seconds_total{{{R}}}": f"0+54x{MINUTES}"},
        {**COLLECTED, f"ada_trainer_simulator_wait_seconds_total{{{R}}}": f"0+36x{MINUTES}"},
    ),
}
# Those that count events: while an experiment is suspended the pods that count are gone.
COUNTING = {
    "AdaUpdatesNotFinite": (
        {f"ada_trainer_skipped_updates_total{{{R}}}": then(0, 2, 10)},
        {f"ada_trainer_skipped_updates_total{{{R}}}": then(0, 2, 40)},  # long ago
    ),
    "AdaStoreFailing": (
        {f"ada_trainer_store_errors_total{{{R}}}": then(0, 1, 10), f"ada_curriculum_store_errors_total{{{E}}}": STEADY},
        {
            f"ada_trainer_store_errors_total{{{R}}}": constant(7),
            f"ada_curriculum_store_errors_total{{{E}}}": constant(0),
        },
    ),
    "AdaRestartStorm": (
        {f'ada_trainer_restarts_total{{{S},cause="failed",pod="a"}}': then(0, 3, 10)},
        {
            f'ada_trainer_restarts_total{{{S},cause="failed",pod="a"}}': then(0, 2, 10),
            f'ada_trainer_restarts_total{{{S},cause="regrouped",pod="a"}}': then(0, 9, 10),
            f'ada_experiment_failures_total{{{S},cause="disruption"}}': then(0, 9, 10),
        },
    ),
    "AdaExperimentFailed": (
        {f'ada_experiment_condition{{{E},type="Failed",reason="Stalled"}}': f"_x{MINUTES - 10} 1x10"},
        {f'ada_experiment_condition{{{E},type="Succeeded",reason="AllStagesTrained"}}': constant(1)},
    ),
}
LEADING, WAITING = 'ada_operator_leading{instance="a"}', 'ada_operator_leading{instance="b"}'
ROUNDS, ERRORS = "ada_operator_reconcile_duration_seconds_count", "ada_operator_reconcile_errors_total"
OPERATOR = {
    "AdaOperatorDeaf": (
        {LEADING: constant(1), 'ada_operator_watch_age_seconds{instance="a"}': then(5, 1000)},
        # a replica that waits has no watches
        {LEADING: constant(1), WAITING: constant(0), 'ada_operator_watch_age_seconds{instance="b"}': constant(5000)},
    ),
    "AdaOperatorFailing": (
        {ROUNDS: f"0+10x{MINUTES}", ERRORS + '{reason="Forbidden"}': f"0+11x{MINUTES}"},
        {
            ROUNDS: f"0+10x{MINUTES}",
            ERRORS + '{reason="Forbidden"}': f"0+2x{MINUTES}",
            ERRORS + '{reason="Conflict"}': f"0+90x{MINUTES}",
            "ada_operator_queue_depth": "0 5 2 0 " * (MINUTES // 4),
        },
    ),
    "AdaOperatorLeaderless": (
        {LEADING: then(1, 0, 10), WAITING: constant(0)},
        {LEADING: constant(0), WAITING: constant(1)},
    ),
}
ALSO_FIRING = {
    "AdaRestartStorm": {f'ada_experiment_failures_total{{{S},cause="stall"}}': then(0, 3, 10)},
    "AdaCurriculumCollapsed": {
        f'ada_curriculum_fitness{{{S},quantile="0.0"}}': constant(0.25),
        f'ada_curriculum_fitness{{{S},quantile="1.0"}}': constant(0.25),
        f"ada_curriculum_archive_tasks{{{S}}}": constant(100),
    },
    "AdaOperatorFailing": {"ada_operator_queue_depth": constant(3)},
    "AdaOperatorLeaderless": {LEADING: f"1x{MINUTES - 60} stale"},
    "AdaStoreFailing": {f"ada_curriculum_store_errors_total{{{E}}}": then(0, 4, 10)},
}


def ended(series):
    """Return series that ended 40 minutes ago, as those of pods do that are gone."""
    return {
        name: f"{values.split()[0].split('x')[0].split('+')[0]}x{MINUTES - 40} stale" for name, values in series.items()
    }


def cases():
    training = phase("Training")
    for name, (fires, silent) in (TRAINING | COUNTING | OPERATOR).items():
        yield name, "fires", {**training, **fires}, True
        yield name, "is silent", {**training, **silent}, False
    for name, fires in ALSO_FIRING.items():
        yield name, "fires also", {**training, **fires}, True
    for name, (fires, _) in TRAINING.items():
        yield name, "is silent while suspended", {**phase("Suspended"), **fires}, False
        yield name, "is silent while evaluated", {**phase("Evaluating"), **fires}, False
    for name, (fires, _) in COUNTING.items():
        yield name, "is silent while suspended", {**phase("Suspended"), **ended(fires)}, False


CASES = list(cases())


def promtool_test(series, alert, fires):
    """Return a unit test as promtool reads it."""
    found = [{"labels": "{}", "value": 1}] if fires else []
    expression = f'count(count by (alertname) (ALERTS{{alertname="{alert}",alertstate="firing"}}))'
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [{"expr": expression, "eval_time": f"{MINUTES}m", "exp_samples": found}],
    }


@pytest.mark.parametrize(("alert", "what", "series", "fires"), CASES, ids=[f"{one[0]}-{one[1]}" for one in CASES])
def test_an_alert_fires_or_is_silent(alert, what, series, fires, tmp_path):
    file = tmp_path / "test.yaml"
    file.write_text(json.dumps({"rule_files": [str(RULES)], "tests": [promtool_test(series, alert, fires)]}))
    said = subprocess.run(
        [program("promtool"), "test", "rules", str(file)], capture_output=True, text=True, check=False
    )
    assert said.returncode == 0, f"{alert} {what}:\n{said.stdout}\n{said.stderr}"


def test_every_alert_is_tested_firing_silent_and_if_it_watches_training_while_suspended():
    tested = {(alert, what) for alert, what, _, _ in CASES}
    for alert in alerts():
        assert {(alert, "fires"), (alert, "is silent")} <= tested
        assert (alert, "is silent while suspended") in tested or alert in OPERATOR


def test_every_alert_says_how_bad_it_is_and_what_to_do():
    for name, alert in alerts().items():
        assert alert["labels"]["severity"] in ("warning", "critical"), name
        notes = alert["annotations"]
        assert set(notes) == {"summary", "description", "runbook_url"}, name
        page = (ROOT / notes["runbook_url"]).read_text()
        assert page.startswith(f"# {name}\n"), f"{notes['runbook_url']} is not the page of {name}"
        headings = re.findall(r"^## (.+)$", page, re.MULTILINE)
        assert headings == ["Meaning", "Impact", "Diagnosis", "Mitigation"], notes["runbook_url"]


def test_every_runbook_belongs_to_an_alert():
    pages = {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs" / "runbooks").glob("*.md")}
    assert pages - {"docs/runbooks/README.md"} == {alert["annotations"]["runbook_url"] for alert in alerts().values()}


def test_rules_can_be_sped_up_and_are_still_rules(tmp_path):
    file = tmp_path / "fast.yaml"
    file.write_text(yaml.safe_dump(sped_up(60)))
    text = file.read_text()
    assert "[15000ms]" in text
    assert "offset 15000ms" in text
    assert "avg30m" in text, "names stay"
    assert "> 900" in text, "thresholds stay"
    subprocess.run([program("promtool"), "check", "rules", str(file)], check=True, capture_output=True)
