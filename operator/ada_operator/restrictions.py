"""What whoever installed the operator allows experiments to ask for. Pure; `acceptance` refuses what is not allowed.

Pods are made by the operator's rights, not by those of whoever wrote the experiment. So what a pod can reach beyond its
namespace is bounded here even where the platform sets no bounds: no volumes of the node, no API token.
"""

from collections.abc import Iterator
from fnmatch import fnmatchcase
from urllib.parse import parse_qs, urlsplit

from ada_api.experiment import AdaExperiment
from ada_api.stages import PodTemplate
from ada_operator.observed import Platform
from ada_operator.view import Failure

# Those of the restricted Pod Security profile; the sources of projected ones are looked at one by one.
VOLUMES = ("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret")
PROJECTED = ("clusterTrustBundle", "configMap", "downwardAPI", "secret")
OURS = ("ADA_TOKEN", "ADA_STORE")  # starts of names that an experiment may not set where stores are restricted

Patterns = tuple[str, ...] | None


def forbidden(experiment: AdaExperiment, platform: Platform) -> Failure | None:
    """Return what the experiment asks for and may not have, or None."""
    checks = (
        *(_pod(path, template, platform) for path, template in pods(experiment)),
        _stores(experiment, platform),
    )
    return next((found for check in checks for found in check), None)


def pods(experiment: AdaExperiment) -> Iterator[tuple[str, PodTemplate]]:
    """Yield every pod template of the spec with its path."""
    for position, stage in enumerate(experiment.spec.stages):
        yield f"spec.stages[{position}].trainer.pod", stage.trainer.pod
        yield f"spec.stages[{position}].simulators.pod", stage.simulators.pod


def _pod(path: str, template: PodTemplate, platform: Platform) -> Iterator[Failure]:
    if template.image is not None and not matches(template.image, platform.allowed_images):
        yield _refused("ImageNotAllowed", f"{path}.image", template.image, platform.allowed_images)
    name = template.priority_class_name
    if name is not None and not matches(name, platform.allowed_priority_classes):
        yield _refused("PriorityClassNotAllowed", f"{path}.priorityClassName", name, platform.allowed_priority_classes)
    for volume in template.volumes:
        for kind in _forbidden_sources(volume):
            yield Failure(
                "VolumeNotAllowed",
                f"{path}.volumes: {volume.get('name')} is of kind {kind}, which no experiment may have; "
                f"allowed are {', '.join(VOLUMES)}, and API tokens are not projected",
            )
    if platform.allowed_store_endpoints is None:
        return
    for variable in template.env:
        given = str(variable.get("name", ""))
        if given.startswith(OURS):
            yield Failure(
                "StoreNotAllowed",
                f"{path}.env: {given} is set by the operator, whose platform file restricts stores: leave it out",
            )


def _forbidden_sources(volume: dict[str, object]) -> Iterator[str]:
    yield from (kind for kind in volume if kind != "name" and kind not in VOLUMES)
    projected = volume.get("projected")
    sources = projected.get("sources") if isinstance(projected, dict) else None
    for source in sources if isinstance(sources, list) else []:
        yield from (kind for kind in source if kind not in PROJECTED)


def _stores(experiment: AdaExperiment, platform: Platform) -> Iterator[Failure]:
    """Yield every store that is named and not allowed: where checkpoints go, and where teachers come from."""
    allowed = platform.allowed_store_endpoints
    store = experiment.spec.checkpoint.store
    if store is not None and not matches(store.endpoint, allowed):
        yield _refused("StoreNotAllowed", "spec.checkpoint.store.endpoint", store.endpoint, allowed)
    default = endpoint(platform.default_store) if platform.default_store else None
    for position, stage in enumerate(experiment.spec.stages):
        teacher = stage.distillation.checkpoint if stage.distillation else None
        for field, reference in (("warmStart", stage.warm_start), ("distillation.checkpoint", teacher)):
            if reference is None or allowed is None:
                continue
            found = endpoint(reference.uri)
            if found != default and not matches(found, allowed):
                yield _refused("StoreNotAllowed", f"spec.stages[{position}].{field}.uri", reference.uri, allowed)


def endpoint(uri: str) -> str:
    """Return the endpoint that a store's URI names; the whole URI if it names none."""
    return next(iter(parse_qs(urlsplit(uri).query).get("endpoint", [])), uri)


def matches(value: str, allowed: Patterns) -> bool:
    """Return whether a value matches one of the patterns (`*` is any text); all do if there are no patterns."""
    return allowed is None or any(fnmatchcase(value, pattern) for pattern in allowed)


def _refused(reason: str, field: str, value: str, allowed: Patterns) -> Failure:
    said = ", ".join(allowed or ()) or "none"
    return Failure(reason, f"{field} {value} is not allowed by the operator's platform file; allowed: {said}")
