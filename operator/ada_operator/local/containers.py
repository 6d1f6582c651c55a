"""From a pod's manifest to a command and an environment on this machine, and back from a process to a pod's status."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ada_operator.kubernetes_time import timestamp
from ada_operator.local.network import Network
from ada_operator.observed import Manifest


class ContainerConfigError(ValueError):
    """A pod can't be started as it is described; the message says what is missing."""


@dataclass(frozen=True)
class Program:
    """What to start."""

    command: list[str]
    environment: dict[str, str]
    files: dict[Path, str]  # to be written before the start


def program(
    pod: Manifest,
    address: str,
    volumes: Path,
    network: Network,
    configmaps: Mapping[str, Manifest],
    secrets: Mapping[str, Manifest],
    inherited: Mapping[str, str],
) -> Program:
    """Return what to start for a pod.

    ConfigMap volumes become files under `volumes`; variables that point into an emptyDir are left as they are
    inherited: this machine has a home and a cache already.

    Raises:
        ContainerConfigError: if a Secret, ConfigMap or key is missing.
    """
    spec = pod["spec"]
    container = spec["containers"][0]
    places, files, scratch = _mounts(spec, container, volumes, configmaps)

    def here(text: str) -> str:
        for mount, place in places.items():
            if text == mount or text.startswith(f"{mount}/"):
                return str(place) + text[len(mount) :]
        return network.resolved(text)

    environment = dict(inherited)
    for variable in container["env"]:
        value = _value(variable, secrets, configmaps)
        if not any(value == mount or value.startswith(f"{mount}/") for mount in scratch):
            environment[variable["name"]] = here(value)
    environment["ADA_HOST"] = address
    return Program([here(word) for word in container["command"]], environment, files)


def _mounts(
    spec: Manifest, container: Manifest, volumes: Path, configmaps: Mapping[str, Manifest]
) -> tuple[dict[str, Path], dict[Path, str], list[str]]:
    """Return where ConfigMaps are mounted and lie here, the files to write, and the mounts of emptyDirs."""
    by_name = {volume["name"]: volume for volume in spec["volumes"]}
    places: dict[str, Path] = {}
    files: dict[Path, str] = {}
    scratch: list[str] = []
    for mount in container["volumeMounts"]:
        volume = by_name[mount["name"]]
        if "configMap" in volume:
            name = volume["configMap"]["name"]
            if name not in configmaps:
                raise ContainerConfigError(f'configmap "{name}" not found')
            places[mount["mountPath"]] = volumes / name
            files |= {volumes / name / key: text for key, text in configmaps[name]["data"].items()}
        elif "emptyDir" in volume:
            scratch.append(mount["mountPath"])
    return places, files, scratch


def _value(variable: Manifest, secrets: Mapping[str, Manifest], configmaps: Mapping[str, Manifest]) -> str:
    if "valueFrom" not in variable:
        return str(variable.get("value", ""))
    source: dict[str, Any] = variable["valueFrom"]
    if "secretKeyRef" in source:
        wanted = source["secretKeyRef"]
        data = secrets.get(wanted["name"], {}).get("data", {})
        if wanted["key"] in data:
            return base64.b64decode(data[wanted["key"]]).decode()
        raise ContainerConfigError(f'no key "{wanted["key"]}" in secret "{wanted["name"]}"')
    if "configMapKeyRef" in source:
        wanted = source["configMapKeyRef"]
        data = configmaps.get(wanted["name"], {}).get("data", {})
        if wanted["key"] in data:
            return str(data[wanted["key"]])
        raise ContainerConfigError(f'no key "{wanted["key"]}" in configmap "{wanted["name"]}"')
    raise ContainerConfigError(
        f"variable {variable['name']} comes from {', '.join(source)}, which one machine does not have"
    )


def container_status(name: str, state: Manifest, restarts: int, last_state: Manifest, ready: bool) -> Manifest:
    """Return a container's status."""
    return {"name": name, "state": state, "lastState": last_state, "restartCount": restarts, "ready": ready}


def running(now: float) -> Manifest:
    """Return the state of a container that runs."""
    return {"running": {"startedAt": timestamp(now)}}


def waiting(reason: str, message: str) -> Manifest:
    """Return the state of a container that waits."""
    return {"waiting": {"reason": reason, "message": message}}


def terminated(code: int, message: str, now: float) -> Manifest:
    """Return the state of a container that ended."""
    reason = "Completed" if code == 0 else "Error"
    return {"terminated": {"exitCode": code, "reason": reason, "message": message, "finishedAt": timestamp(now)}}
