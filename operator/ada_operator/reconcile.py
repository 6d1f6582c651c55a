"""One reconciliation: observe, plan, apply what differs, write the status once, delete, tell what happened.

No state is kept but what the API server has: whoever runs this next, after a crash at any point, carries on.
"""

import asyncio
import base64
import binascii
import json
import logging
import random
import re
import secrets
import time
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime

from pydantic import ValidationError

from ada_api.experiment import AdaExperiment
from ada_api.status import ExperimentStatus
from ada_operator import names
from ada_operator.arrivals import Arrivals
from ada_operator.cluster import (
    BY_KIND,
    CONFIG_MAPS,
    EXPERIMENTS,
    LABELLED,
    PODS,
    SECRETS,
    ApiError,
    Cluster,
    Resource,
    covers,
)
from ada_operator.curriculum_poll import CurriculumPoll
from ada_operator.events import Event
from ada_operator.kept import KeptLooks, Place, Read
from ada_operator.metrics import OperatorMetrics
from ada_operator.observed import Manifest, Observed, Platform, is_ready, references
from ada_operator.pace import Pace
from ada_operator.planner import Plan, first_child, plan
from ada_operator.summary import with_refused_child
from ada_operator.view import Request
from ada_operator.work_queue import Key

logger = logging.getLogger(__name__)

APPLIED_ANNOTATION = "ada.dev/applied"  # digest of the manifest as last applied
BUILDING_S, RUNNING_S = 60.0, 1.0  # patience with newer experiments: of those that start, and of all others
HELD_S = 1.0  # until an experiment that is held is looked at again, about
NAMED_MAPS = "ConfigMaps that the spec names"  # as a kind of its own among what is known
REFUSED = (400, 403, 422)  # what a person has to mend: fields that make no sense, quotas, policies, rights
# How server-side apply begins a 500 that is not the server's fault: a field that its kind has not, or of another type.
UNREADABLE = ("failed to create typed patch object", "failed to convert new object")
LONGEST_NOTE = 1024  # letters of an event's note, by the API's rule
OBJECT_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")  # nothing that could lead out of the namespace


class NameTakenError(Exception):
    """A child can't be made: an object of its name is there that is not the experiment's."""


class ChildRefusedError(Exception):
    """The API server refuses a child; a person has to mend what the message names."""


class Reconciler:
    """Brings experiments to what their specs want, one step at a time."""

    def __init__(
        self,
        cluster: Cluster,
        poll: CurriculumPoll,
        platform: Platform,
        metrics: OperatorMetrics,
        identity: str,
    ) -> None:
        self._cluster, self._poll, self._platform, self._metrics = cluster, poll, platform, metrics
        self._identity = identity
        self._running: dict[Key, float] = {}
        self._phases: dict[Key, str] = {}  # as last seen; empty as long as there is no more than the first child
        self._pace = Pace()
        self._arrivals = Arrivals()
        self.kept = KeptLooks()

    def longest_running_s(self) -> float:
        """Return for how long the oldest reconciliation that has not ended is running."""
        return time.monotonic() - min(self._running.values(), default=time.monotonic())

    def patience_s(self, key: Key) -> float:
        """Return for how long an experiment may be passed over by newer ones: one that nobody looked at yet, never.

        The first look makes one child. With hundreds of experiments at once each has it soon, and they are built up
        after that.
        """
        phase = self._phases.get(key)
        if phase is None:
            return 0.0
        return BUILDING_S if phase in ("", "Starting") else RUNNING_S

    def doubt_unlisted(self, key: Key) -> None:
        """Have read anew what is known by name alone."""
        self.kept.doubt(place(key), SECRETS.kind, NAMED_MAPS)

    async def reconcile(self, key: Key) -> float | None:
        """Reconcile one experiment; return after how many seconds it wants to be looked at again, if at all.

        Raises:
            ApiError: a request failed; a conflict (409) only means that what was read is no longer so.
        """
        if self._arrivals.hold(key):
            return HELD_S * (0.5 + random.random())
        self._running[key] = began = time.monotonic()
        try:
            delay_s = await self._reconcile(key)
        except Exception as error:
            self._phases.pop(key, None)
            self.kept.doubt(place(key))  # a conflict says that something is not as we knew it; after others, who knows
            reason = error.reason or str(error.status) if isinstance(error, ApiError) else type(error).__name__
            self._metrics.errors.labels(reason=reason).inc()
            raise
        finally:
            del self._running[key]
        self._metrics.reconcile_seconds.observe(time.monotonic() - began)
        return delay_s

    async def _reconcile(self, key: Key) -> float | None:
        here = place(key)
        listed = await self.kept.items(here, EXPERIMENTS.kind, lambda: self._get_all(EXPERIMENTS, key[0], [key[1]]))
        found = listed[0] if listed else None
        if found is None or "deletionTimestamp" in found["metadata"]:
            self._poll.forget(key)  # its children go with it: they name it as their owner
            self._metrics.forget(key)
            self._arrivals.forget(key)
            self._phases.pop(key, None)
            self._pace.forget(key)
            self.kept.leave(here, EXPERIMENTS.kind, SECRETS.kind, NAMED_MAPS)
            return None
        try:
            experiment = AdaExperiment.model_validate(found)
        except ValidationError as error:
            await self._refuse(found, error)
            return None
        try:
            return await self._step(key, found, experiment)
        except ChildRefusedError as error:
            before = ExperimentStatus.model_validate(experiment.status or {})
            refused = with_refused_child(before, str(error), experiment.metadata.generation, self._cluster.now())
            await self._write_status(found, _written(refused))
            raise

    async def _step(self, key: Key, found: Manifest, experiment: AdaExperiment) -> float | None:
        """Look at an experiment and do what it needs; return after how many seconds it wants to be looked at again."""
        observed = await self.observe(experiment)
        if not experiment.status and names.config(key[1]) not in observed.configmaps:
            child = first_child(experiment, observed, self._cluster.now())
            if child is not None:
                await self._apply(child, None, found)
                self._phases[key] = ""
                self._arrivals.begin(key)
                return 0.0
        planned = plan(experiment, observed, self._cluster.now())
        logger.debug(
            "%s/%s: %s, progress %s s old, again in %s s",
            *key,
            planned.status.phase,
            observed.progress_age_s,
            planned.requeue_after,
        )
        await self.carry_out(found, observed, planned)
        self._metrics.note(key, experiment, planned.status)
        self._phases[key] = planned.status.phase
        if planned.status.phase == "Pending":
            self.doubt_unlisted(key)  # what it waits for is not watched
        return self._pace.look_again_s(key, planned.requeue_after)

    async def observe(self, experiment: AdaExperiment) -> Observed:
        """Read everything that a plan depends on, but for what is known well enough."""
        namespace, name = key = experiment.metadata.namespace, experiment.metadata.name
        here = place(key)
        labels = {names.EXPERIMENT_LABEL: names.scope(name)}
        named = references(experiment, self._platform)
        secret_names = [one.name for one in named if one.kind == SECRETS.kind]
        map_names = [one.name for one in named if one.kind == CONFIG_MAPS.kind]

        def list_of(resource: Resource) -> Read:
            return lambda: self._cluster.list(resource, namespace, labels)

        lists = await self._look(here, {resource.kind: list_of(resource) for resource in LABELLED})
        children = _own_children(experiment.metadata.uid, lists)
        began = bool(experiment.status) or names.config(name) in children["ConfigMap"]
        if began and self._phases.get(key) != "":  # else there is no token yet, or we are told when we make one
            secret_names.append(names.token(name))
        reads = {
            SECRETS.kind: lambda: self._get_all(SECRETS, namespace, secret_names),
            NAMED_MAPS: lambda: self._get_all(CONFIG_MAPS, namespace, map_names),
        }
        found_secrets, found_maps = await self._look(here, reads)
        by_secret = _by_name(found_secrets)
        token = by_secret.get(names.token(name))
        if token and not is_owned(token, {experiment.metadata.uid}):
            del by_secret[names.token(name)]
        pods = children["Pod"]
        await self._ask_progress(experiment, by_secret.get(names.token(name)), pods)
        progress, age_s = self._poll.last(key)
        return Observed(
            platform=self._platform,
            fresh_token=secrets.token_urlsafe(32),
            configmaps=children["ConfigMap"] | _by_name(found_maps),
            secrets=by_secret,
            services=children["Service"],
            statefulsets=children["StatefulSet"],
            jobs=children["Job"],
            pods=pods,
            disruption_budgets=children["PodDisruptionBudget"],
            network_policies=children["NetworkPolicy"],
            progress=progress,
            progress_age_s=age_s,
            silent=self._poll.is_silent(key),
            unchanged_s=self._poll.unchanged_s(key),
        )

    async def _look(self, here: Place, reads: Mapping[str, Read]) -> list[list[Manifest]]:
        """Return what there is of these kinds, in their order; what is not known is read, all of it together."""
        found = {kind: self.kept.known(here, kind) for kind in reads}
        unknown = [kind for kind, items in found.items() if items is None]
        if unknown:
            there = await asyncio.gather(*(self.kept.items(here, kind, reads[kind]) for kind in unknown))
            found |= dict(zip(unknown, there, strict=True))
        return [items for items in found.values() if items is not None]

    async def _get_all(self, resource: Resource, namespace: str, wanted: Iterable[str]) -> list[Manifest]:
        """Return those of the named objects that exist; what can't be a name, no object has."""
        named = [name for name in dict.fromkeys(wanted) if OBJECT_NAME.fullmatch(name)]
        found = await asyncio.gather(*(self._cluster.get(resource, namespace, name) for name in named))
        return [one for one in found if one is not None]

    async def _ask_progress(
        self, experiment: AdaExperiment, secret: Manifest | None, pods: dict[str, Manifest]
    ) -> None:
        """Have the experiment's curriculum service asked, as long as its pod is ready and we know the token."""
        key = experiment.metadata.namespace, experiment.metadata.name
        pod = pods.get(f"{names.workload(key[1], 'curriculum')}-0")
        token = _token(secret)
        if not token or not pod or not is_ready(pod):
            self._poll.unfollow(key)
            return
        self._poll.follow(key, token)
        if experiment.spec.suspend or (experiment.status or {}).get("phase") == "Failed":
            # It is about to go: what its last trainer committed is asked for after the list that shows none left.
            await self._poll.ask(key, token)

    async def carry_out(self, found: Manifest, observed: Observed, planned: Plan) -> None:
        """Do what a plan says: objects, requests, the status if it changed, deletions, events."""
        there = _children(observed)
        for wanted in planned.objects:
            await self._apply(wanted, there.get((wanted["kind"], wanted["metadata"]["name"])), found)
        await self._send(found, observed, planned.requests)
        status = _written(planned.status)
        acts = planned.deletions or planned.events  # on what the status says
        if acts or not self._pace.may_wait(_key(found), found.get("status"), status):
            await self._write_status(found, status)
        # Only now: what was concluded from a child must not be lost with it, should this operator end here.
        for gone in planned.deletions:
            await self._delete(found, gone.kind, gone.name, there.get((gone.kind, gone.name)))
        for event in planned.events:
            await self._tell(found, event)

    async def _write_status(self, found: Manifest, wanted: Manifest) -> None:
        """Write the status if it is another one."""
        if wanted != found.get("status"):
            written = await self._cluster.replace({**found, "status": wanted}, "status")
            self._pace.wrote(_key(found))
            self.kept.wrote(place(_key(found)), EXPERIMENTS.kind, written)
            self._count("status")

    async def _apply(self, wanted: Manifest, there: Manifest | None, experiment: Manifest) -> None:
        """Apply a manifest, unless it was applied as it is and nobody has touched its fields since.

        What is there is named by its uid, so that one which went meanwhile is not made anew from an old plan.
        """
        kind, name = wanted["kind"], wanted["metadata"]["name"]
        marked = _marked(wanted)
        if there is None:  # for all we know: it may have lost its labels, or be somebody else's
            try:
                await self._send_apply(marked, experiment, new=True)
            except ApiError as error:
                if error.status != 409:
                    raise
                there = await self._found_in_the_way(kind, name, experiment)
                if there is None or kind == SECRETS.kind:
                    raise  # a token never changes: the next look reads the one that is there
            else:
                return
        if "deletionTimestamp" in there["metadata"] or covers(there, marked):
            return  # one that is on its way out is made anew when it is gone; a watch event will say so
        marked["metadata"]["uid"] = there["metadata"]["uid"]
        await self._send_apply(marked, experiment)

    async def _found_in_the_way(self, kind: str, name: str, experiment: Manifest) -> Manifest | None:
        """Return the object that has the name of a child that was to be made, if it is the experiment's.

        Raises:
            NameTakenError: it is not.
        """
        there = await self._cluster.get(BY_KIND[kind], experiment["metadata"]["namespace"], name)
        if there is not None and not is_owned(there, {experiment["metadata"]["uid"]}):
            message = f"{kind} {name} is there already and is not this experiment's: delete or rename it"
            await self._tell(experiment, Event("Warning", "NameTaken", message))
            raise NameTakenError(message)
        return there

    async def _send_apply(self, marked: Manifest, experiment: Manifest, *, new: bool = False) -> None:
        """Send a manifest to the API server, and say it if that refuses it.

        Raises:
            ChildRefusedError: it does, and will until somebody mends something.
        """
        kind, namespace, name = marked["kind"], marked["metadata"]["namespace"], marked["metadata"]["name"]
        try:
            applied = await self._cluster.apply(marked, new=new)
        except ApiError as error:
            if error.status not in REFUSED and not error.message.startswith(UNREADABLE):
                raise
            message = f"{kind} {name}: {error.message}"
            await self._tell(experiment, Event("Warning", "ChildRefused", message))
            raise ChildRefusedError(message) from error
        self.kept.wrote(place(_key(experiment)), kind, applied)
        self._count("apply")
        logger.info("applied %s %s/%s", kind, namespace, name)

    async def _send(self, found: Manifest, observed: Observed, requests: Iterable[Request]) -> None:
        """Send what the plan asks of the curriculum service."""
        key = _key(found)
        token = _token(observed.secrets.get(names.token(key[1])))
        for request in requests:
            if token:
                await self._poll.send(key, token, request.path, request.body)

    async def _delete(self, found: Manifest, kind: str, name: str, there: Manifest | None) -> None:
        """Delete a child, or the experiment itself; only the one that the plan was made from."""
        meant = found if kind == EXPERIMENTS.kind else there
        if meant is None or "deletionTimestamp" in meant["metadata"]:
            return
        namespace = found["metadata"]["namespace"]
        self.kept.doubt(place(_key(found)), kind)
        if await self._cluster.delete(BY_KIND[kind], namespace, name, meant["metadata"]["uid"]):
            self._count("delete")
            logger.info("deleted %s %s/%s", kind, namespace, name)

    async def _refuse(self, found: Manifest, error: ValidationError) -> None:
        """Say that a spec can't be understood: the installed CustomResourceDefinition is not this operator's."""
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        message = (
            f"{field}: {first['msg']}; the installed CustomResourceDefinition is of another version of the operator"
        )
        logger.error("%s/%s: %s", found["metadata"]["namespace"], found["metadata"]["name"], message)
        await self._tell(found, Event("Warning", "InvalidSpec", message))

    async def _tell(self, found: Manifest, event: Event) -> None:
        """Write an event about the experiment, once: its name follows from what it says."""
        metadata = found["metadata"]
        said = json.dumps([metadata["uid"], event.type, event.reason, event.message])
        try:
            await self._cluster.create(
                {
                    "apiVersion": "events.k8s.io/v1",
                    "kind": "Event",
                    "metadata": {
                        "name": f"{names.scope(metadata['name'])}.{names.digest(said)}",
                        "namespace": metadata["namespace"],
                    },
                    "eventTime": datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
                    "reportingController": "ada.dev/ada-operator",
                    "reportingInstance": self._identity[:128],
                    "action": "Reconcile",
                    "type": event.type,
                    "reason": event.reason,
                    "note": event.message[:LONGEST_NOTE],
                    "regarding": {
                        "apiVersion": EXPERIMENTS.api_version,
                        "kind": EXPERIMENTS.kind,
                        "name": metadata["name"],
                        "namespace": metadata["namespace"],
                        "uid": metadata["uid"],
                    },
                }
            )
        except ApiError as error:
            if error.status != 409:  # told before
                logger.warning("could not write the event %s: %s", event.reason, error)

    def _count(self, action: str) -> None:
        self._metrics.applied.labels(action=action).inc()


def _written(status: ExperimentStatus) -> Manifest:
    return status.model_dump(mode="json", by_alias=True, exclude_none=True)


def _key(item: Manifest) -> Key:
    return item["metadata"]["namespace"], item["metadata"]["name"]


def place(key: Key) -> Place:
    """Return under what an experiment's children are known."""
    return key[0], names.scope(key[1])


def is_owned(item: Manifest, owners: Collection[str]) -> bool:
    """Return whether the object's controller is one of these (by uid)."""
    return any(one.get("controller") and one["uid"] in owners for one in item["metadata"].get("ownerReferences", []))


def _own_children(uid: str, lists: Iterable[list[Manifest]]) -> dict[str, dict[str, Manifest]]:
    """Return the listed children by kind and name, without what an earlier experiment of the name has left.

    Pods belong to a Job or StatefulSet of ours, or are on their way out.
    """
    listed = {resource.kind: items for resource, items in zip(LABELLED, lists, strict=True)}
    own = {
        kind: [item for item in items if is_owned(item, {uid})] for kind, items in listed.items() if kind != PODS.kind
    }
    owners = {item["metadata"]["uid"] for kind in ("Job", "StatefulSet") for item in own[kind]}
    own[PODS.kind] = [
        pod for pod in listed[PODS.kind] if is_owned(pod, owners) or "deletionTimestamp" in pod["metadata"]
    ]
    return {kind: _by_name(items) for kind, items in own.items()}


def _by_name(items: Iterable[Manifest]) -> dict[str, Manifest]:
    return {item["metadata"]["name"]: item for item in items}


def _children(observed: Observed) -> dict[tuple[str, str], Manifest]:
    """Return everything observed by kind and name."""
    kinds = {
        "ConfigMap": observed.configmaps,
        "Secret": observed.secrets,
        "Service": observed.services,
        "StatefulSet": observed.statefulsets,
        "Job": observed.jobs,
        "Pod": observed.pods,
        "PodDisruptionBudget": observed.disruption_budgets,
        "NetworkPolicy": observed.network_policies,
    }
    return {(kind, name): item for kind, items in kinds.items() for name, item in items.items()}


def _marked(wanted: Manifest) -> Manifest:
    """Return a manifest with its own digest as an annotation, so that a field that went away is noticed as well.

    A Job's pod template never changes, and what is kept of it has the API server's defaults: it is not digested.
    """
    digest = names.digest(json.dumps(_changeable(wanted), sort_keys=True))
    metadata = wanted["metadata"]
    annotations = {**metadata.get("annotations", {}), APPLIED_ANNOTATION: digest}
    return {**wanted, "metadata": {**metadata, "annotations": annotations}}


def _changeable(wanted: Manifest) -> Manifest:
    if wanted["kind"] != "Job":
        return wanted
    return {**wanted, "spec": {key: value for key, value in wanted["spec"].items() if key != "template"}}


def _token(secret: Manifest | None) -> str | None:
    """Return the experiment's token, or None if there is none that can be read."""
    try:
        return base64.b64decode((secret or {})["data"][names.TOKEN_KEY], validate=True).decode() or None
    except (KeyError, TypeError, binascii.Error, UnicodeDecodeError):
        return None
