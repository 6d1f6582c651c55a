"""Helm, with the chart of this checkout."""

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import yaml
from tests.cluster.build import program_path

CHART = Path(__file__).parents[2] / "charts" / "ada-operator"
RELEASE, NAMESPACE = "ada", "ada-system"
MONITORING = "--api-versions=monitoring.coreos.com/v1"  # as if Prometheus Operator were there


def run_helm(
    *arguments: str | Path, values: dict[str, Any] | None = None, config: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a Helm command, with values and for a cluster if there are any, and return the result, good or bad."""
    with tempfile.TemporaryDirectory(prefix="ada-helm-") as folder:
        command = [str(program_path("helm")), *map(str, arguments)]
        if values is not None:
            file = Path(folder) / "values.json"
            file.write_text(json.dumps(values))
            command.append(f"--values={file}")
        # A HOME of its own: no plugins, repositories or caches of whoever runs the tests.
        environment = {**os.environ, "HOME": folder, "KUBECONFIG": str(config or "/nonexistent")}
        return subprocess.run(command, text=True, capture_output=True, check=False, env=environment)


def render(values: dict[str, Any] | None = None, *flags: str) -> list[dict[str, Any]]:
    """Return what the chart makes of some values.

    Raises:
        ValueError: Helm refuses them; the message is Helm's.
    """
    rendered = run_helm("template", RELEASE, CHART, f"--namespace={NAMESPACE}", *flags, values=values or {})
    if rendered.returncode:
        raise ValueError(rendered.stderr)
    return [document for document in yaml.safe_load_all(rendered.stdout) if document]
