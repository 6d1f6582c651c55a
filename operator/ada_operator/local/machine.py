"""A machine that behaves like a small cluster: objects are applied and deleted, processes run in place of pods."""

import itertools
import signal
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from ada_operator import names
from ada_operator.kubernetes_time import timestamp
from ada_operator.local import containers, processes, workloads
from ada_operator.local.metrics import Target
from ada_operator.local.network import Network
from ada_operator.local.workloads import BackOff
from ada_operator.observed import Manifest, Reference, is_ready

RESTART_PAUSE = BackOff(1.0, 10.0)
REPLACE_PAUSE = BackOff(1.0, 10.0)
PROBE_UNREADY_S, PROBE_READY_S, PROBE_TIMEOUT_S = 0.2, 2.0, 2.0
PROBE_FAILURES = 3  # in a row, before a ready pod is not ready any more
STEADY_S = 60.0  # a container that ran this long has put its crashes behind it
KILL_AGAIN_S = 5.0
KILLED = 128 + signal.SIGKILL
SERVE_METRICS = ("curriculum", "simulator", "trainer")  # on the port of their health


@dataclass
class Pod:
    """A pod and what this machine knows beyond its manifest."""

    manifest: Manifest
    running: processes.Running | None = None
    crashes: int = 0  # in a row
    start_at: float = 0.0
    kill_at: float | None = None  # set once it is asked to stop
    probed_at: float = 0.0
    probe: Future[bool] | None = None
    failed_probes: int = 0


@dataclass
class Machine:
    """The objects and pods of one run. Call `step` often; `close` leaves no process behind."""

    directory: Path
    network: Network
    environments: Mapping[str, Mapping[str, str]]  # by part: what its processes inherit
    objects: dict[Reference, Manifest] = field(default_factory=dict)
    pods: dict[str, Pod] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._serial = itertools.count(1)
        self._probes = ThreadPoolExecutor(8, "probe")

    def apply(self, objects: Iterable[Manifest]) -> None:
        """Make or change objects, as server-side apply does; status and identity stay."""
        for wanted in objects:
            key = Reference(wanted["kind"], wanted["metadata"]["name"])
            known = self.objects.get(key)
            uid = known["metadata"]["uid"] if known else f"{wanted['metadata']['name']}-{next(self._serial)}"
            self.objects[key] = {
                **wanted,
                "metadata": {**wanted["metadata"], "uid": uid},
                "status": known.get("status", {}) if known else {},
            }

    def delete(self, references: Iterable[Reference], now: float) -> None:
        """Delete objects; the pods of a workload are asked to stop."""
        for reference in references:
            gone = self.objects.pop(reference, None)
            if gone is not None:
                for pod in workloads.owned(gone, [pod.manifest for pod in self.pods.values()]):
                    self._stop(pod["metadata"]["name"], now)

    def by_kind(self, kind: str) -> dict[str, Manifest]:
        """Return the objects of a kind by name."""
        return {reference.name: found for reference, found in self.objects.items() if reference.kind == kind}

    def targets(self) -> tuple[Target, ...]:
        """Return the running programs that serve metrics."""
        found = []
        for name, pod in sorted(self.pods.items()):
            part = pod.manifest["metadata"]["labels"][names.PART_LABEL]
            if pod.running is not None and part in SERVE_METRICS:
                found.append(Target(f"{self._address(pod.manifest)}:{names.HEALTH_PORTS[part]}", part, name))
        return tuple(found)

    def step(self, now: float) -> None:
        """Look once at every process and every workload, and do what is due."""
        for name in list(self.pods):
            self._reap(name, now)
        self._run_controllers(now)
        for pod in self.pods.values():
            self._start(pod, now)
            self._probe(pod, now)

    def kill(self) -> None:
        """Kill every process now."""
        for pod in self.pods.values():
            if pod.running is not None:
                pod.running.kill()
        for pod in self.pods.values():
            if pod.running is not None:
                pod.running.process.wait()
                pod.running = None
        processes.kill_orphans(set())

    def close(self) -> None:
        """Kill what still runs and give the addresses back."""
        self.kill()
        self._probes.shutdown(cancel_futures=True)
        self.network.close()

    def _run_controllers(self, now: float) -> None:
        manifests = [pod.manifest for pod in self.pods.values()]
        for reference, workload in list(self.objects.items()):
            if reference.kind == "StatefulSet":
                decision = workloads.stateful_set(workload, manifests, now)
            elif reference.kind == "Job":
                decision = workloads.job(workload, manifests, now, REPLACE_PAUSE)
            else:
                continue
            workload["status"] = decision.status
            for name in decision.stop:
                self._stop(name, now)
            for manifest in decision.start:
                if manifest["metadata"]["name"] not in self.pods:
                    manifest["metadata"]["uid"] = f"{manifest['metadata']['name']}-{next(self._serial)}"
                    self.pods[manifest["metadata"]["name"]] = Pod(manifest)

    def _stop(self, name: str, now: float) -> None:
        pod = self.pods[name]
        if pod.running is None:
            del self.pods[name]
        elif pod.kill_at is None:
            grace_s = pod.manifest["spec"]["terminationGracePeriodSeconds"]
            pod.manifest["metadata"]["deletionTimestamp"] = timestamp(now + grace_s)
            pod.kill_at = now + grace_s
            pod.running.stop()

    def _reap(self, name: str, now: float) -> None:
        """Note the end of a process; kill one that does not stop in time."""
        pod = self.pods[name]
        if pod.running is None:
            return
        processes.bound(pod.running.log)
        code = pod.running.exit_code()
        if code is None:
            if pod.kill_at is not None and now >= pod.kill_at:
                pod.running.kill()
                pod.kill_at = now + KILL_AGAIN_S
            return
        if code == KILLED:
            processes.kill_orphans({one.running.process.pid for one in self.pods.values() if one.running})
        ended = containers.terminated(code, processes.tail(pod.running.log, pod.running.log_start), now)
        steady = now - pod.running.started >= STEADY_S
        pod.running, pod.probe = None, None
        if pod.kill_at is not None:
            del self.pods[name]
        elif pod.manifest["spec"].get("restartPolicy") == "Never":
            self._set(pod, "Failed" if code else "Succeeded", ended, {}, 0, ready=False)
        else:
            pod.crashes = 1 if steady else pod.crashes + 1
            pod.start_at = now + RESTART_PAUSE.pause_s(pod.crashes - 1)
            restarts = pod.manifest["status"]["containerStatuses"][0]["restartCount"]
            state = containers.waiting("CrashLoopBackOff", "") if pod.crashes > 1 else ended
            self._set(pod, "Running", state, ended, restarts, ready=False)

    def _start(self, pod: Pod, now: float) -> None:
        if pod.running is not None or pod.kill_at is not None or workloads.is_over(pod.manifest) or now < pod.start_at:
            return
        part = pod.manifest["metadata"]["labels"][names.PART_LABEL]
        statuses = pod.manifest["status"]["containerStatuses"]
        restarts = statuses[0]["restartCount"] + 1 if statuses and statuses[0]["lastState"] else 0
        last = statuses[0]["lastState"] if statuses else {}
        try:
            program = containers.program(
                pod.manifest,
                self._address(pod.manifest),
                self.directory / "volumes",
                self.network,
                self.by_kind("ConfigMap"),
                self.by_kind("Secret"),
                self.environments[part],
            )
        except containers.ContainerConfigError as error:
            self._set(
                pod, "Pending", containers.waiting("CreateContainerConfigError", str(error)), last, 0, ready=False
            )
            return
        for path, text in program.files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        log = self.directory / "logs" / f"{pod.manifest['metadata']['name']}.log"
        pod.running = processes.start(program.command, program.environment, log, now)
        self._set(pod, "Running", containers.running(now), last, restarts, ready=not self._probe_of(pod))

    def _probe(self, pod: Pod, now: float) -> None:
        """Ask for the pod's health in the background, and note the answer."""
        wanted = self._probe_of(pod)
        if pod.running is None or not wanted:
            return
        ready = is_ready(pod.manifest)
        if pod.probe is None:
            if now - pod.probed_at >= (PROBE_READY_S if ready else PROBE_UNREADY_S):
                target = wanted["httpGet"]
                address = self._address(pod.manifest)
                pod.probe = self._probes.submit(
                    processes.is_healthy, address, target["port"], target["path"], PROBE_TIMEOUT_S
                )
                pod.probed_at = now
            return
        if pod.probe.done():
            pod.failed_probes = 0 if pod.probe.result() else pod.failed_probes + 1
            pod.probe = None
            healthy = pod.failed_probes == 0 or (ready and pod.failed_probes < PROBE_FAILURES)
            status = pod.manifest["status"]["containerStatuses"][0]
            self._set(pod, "Running", status["state"], status["lastState"], status["restartCount"], ready=healthy)

    def _probe_of(self, pod: Pod) -> Manifest:
        found: Manifest = pod.manifest["spec"]["containers"][0].get("readinessProbe", {})
        return found

    def _address(self, pod: Manifest) -> str:
        workload, _, ordinal = pod["spec"]["hostname"].rpartition("-")
        return self.network.address(workload, int(ordinal))

    def _set(self, pod: Pod, phase: str, state: Manifest, last: Manifest, restarts: int, *, ready: bool) -> None:
        name = pod.manifest["spec"]["containers"][0]["name"]
        pod.manifest["status"] = {
            "phase": phase,
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
            "containerStatuses": [containers.container_status(name, state, restarts, last, ready)],
        }
