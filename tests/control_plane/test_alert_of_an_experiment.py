"""The walk-through of docs/install.md as far as it needs no kubelet: an alert is made to fire, and resolved."""

import json
import os

import pytest
from tests.alerts.prometheus import prometheus
from tests.control_plane.flow import NAME, Flow


@pytest.mark.skipif(not os.environ.get("ADA_TEST_LONG"), reason="takes minutes: set ADA_TEST_LONG=1")
def test_a_deadline_that_passed_fires_an_alert_and_taking_it_back_resolves_it(
    plane, namespace, tmp_path, make_operator
):
    """With the shipped rules as they are, and a real Prometheus that asks a real operator."""
    flow = Flow(plane.kubectl, namespace, tmp_path)
    operator = make_operator(flow.operator_environment(), "--platform", str(flow.platform()))
    targets = tmp_path / "targets.json"
    targets.write_text(json.dumps([{"targets": [operator.url("").removeprefix("http://")]}]))

    def set_deadline(seconds: int | None) -> None:
        patch = json.dumps({"spec": {"activeDeadlineSeconds": seconds}})
        plane.kubectl("patch", "adaexperiment", NAME, f"-n={namespace}", "--type=merge", f"--patch={patch}")

    try:
        with prometheus(tmp_path / "prometheus", targets, factor=1.0) as server:
            flow.apply()
            group = flow.begin("teacher")
            set_deadline(1)
            alert = server.wait_until("alert", lambda one: one.firing().get("AdaExperimentFailed"))
            assert alert["labels"]["experiment"] == f"{namespace}/{NAME}"
            assert alert["labels"]["reason"] == "DeadlineExceeded"
            flow.stop_service()
            set_deadline(None)
            server.wait_until("end of the alert", lambda one: "AdaExperimentFailed" not in one.firing())
            flow.start_service()
            assert flow.begin("teacher")["generation"] == group["generation"] + 1
    finally:
        flow.close()
