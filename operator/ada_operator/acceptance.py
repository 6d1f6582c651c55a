"""What only the place where the experiment runs can tell: is it allowed there, and is what it refers to there?"""

from ada_api.experiment import AdaExperiment
from ada_operator.manifests.programs import store_uri
from ada_operator.observed import Observed, references
from ada_operator.restrictions import forbidden
from ada_operator.view import Failure, View


def refusal(view: View) -> Failure | None:
    """Return why nothing can be started yet, or None."""
    not_allowed = forbidden(view.experiment, view.platform)
    if not_allowed is not None:
        return not_allowed
    if store_uri(view.experiment, view.platform) is None:
        return Failure(
            "StoreMissing",
            "spec.checkpoint.store is not set and the operator has no default store: name one, "
            "or set defaultStore in the operator's --platform file",
        )
    for reference in references(view.experiment, view.platform):
        found = view.observed.secrets if reference.kind == "Secret" else view.observed.configmaps
        if reference.name not in found:
            where = view.experiment.metadata.namespace
            return Failure(
                "ReferenceMissing", f"there is no {reference.kind} {reference.name} in namespace {where}: create it"
            )
    for template in view.experiment.spec.environment.templates:
        if template.config_map and template.name not in view.texts:
            return Failure(
                "ReferenceMissing",
                f"ConfigMap {template.config_map.name} has no key {template.config_map.key} "
                f"(spec.environment.templates, {template.name}): add it",
            )
    return None


def template_texts(experiment: AdaExperiment, observed: Observed) -> dict[str, str]:
    """Return the texts of the task templates that ConfigMaps hold, by template name, as far as they are there."""
    texts: dict[str, str] = {}
    for template in experiment.spec.environment.templates:
        if template.config_map:
            data = observed.configmaps.get(template.config_map.name, {}).get("data") or {}
            if template.config_map.key in data:
                texts[template.name] = data[template.config_map.key]
    return texts
