"""Write what the chart takes from elsewhere: the CRD template from crds/, the README's table from values and schema.

`make chart` runs it; a test compares what it would write with what is there.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
CHART = ROOT / "charts" / "ada-operator"
CRDS = ROOT / "crds"
CRD_TEMPLATE = CHART / "templates" / "crds.yaml"
README = CHART / "README.md"
BEGIN, END = "<!-- values: written by `make chart` -->\n", "<!-- end of values -->\n"


def crd_template() -> str:
    """Return the chart's template of all resource definitions: as in crds/, kept on uninstall."""
    lines = ["{{- /* Written by `make chart` from crds/. Don't edit. */}}\n", "{{- if .Values.crds.enabled }}\n"]
    for path in sorted(CRDS.glob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        head, mark, rest = text.partition("\nmetadata:\n")
        if not mark or "{{" in text:
            raise ValueError(f"{path}: no metadata to annotate, or braces that Helm would take for a template")
        lines += ["---\n", f"{head}{mark}", "  annotations:\n", "    helm.sh/resource-policy: keep\n", "  labels:\n"]
        lines += ['    {{- include "ada-operator.labels" . | nindent 4 }}\n', rest]
    return "".join([*lines, "{{- end }}\n"])


def values(defaults: Any, schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any, str]]:
    """Yield path, default and meaning of every value, in the order of values.yaml.

    Raises:
        ValueError: a value has no description in the schema.
    """
    for key, default in defaults.items():
        place = f"{path}.{key}" if path else key
        described = schema["properties"].get(key, {})
        if not described.get("description"):
            raise ValueError(f"values.schema.json does not describe {place}")
        if "properties" in described and described["additionalProperties"] is False and key != "resources":
            yield from values(default, described, place)
        else:
            yield place, default, described["description"]


def readme() -> str:
    """Return the chart's README with a fresh table of values."""
    defaults = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    rows = [
        f"| `{path}` | `{json.dumps(default)}` | {meaning} |\n" for path, default, meaning in values(defaults, schema)
    ]
    before, begin, rest = README.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{README}: the lines between which the table stands are gone")
    return "".join([before, begin, "| value | default | meaning |\n|---|---|---|\n", *rows, end, after])


def generated() -> dict[Path, str]:
    """Return the text of every file that is written here."""
    return {CRD_TEMPLATE: crd_template(), README: readme()}


if __name__ == "__main__":
    for target, text in generated().items():
        target.write_text(text, encoding="utf-8")
