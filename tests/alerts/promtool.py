"""Prometheus' own tools: where they are, and rules with all their times made shorter."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
RULES = ROOT / "charts" / "ada-operator" / "files" / "alerts" / "ada.yaml"
DURATION = re.compile(r"\b(\d+)(d|h|m|s)\b")
SECONDS = {"d": 86_400, "h": 3600, "m": 60, "s": 1}


def program(name: str) -> str:
    """Return the path of promtool or prometheus, or skip the test that needs it."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: Debian's package `prometheus` has it")
    return found


def groups() -> list[dict[str, Any]]:
    """Return the groups of the shipped rules."""
    return yaml.safe_load(RULES.read_text())["groups"]


def alerts() -> dict[str, dict[str, Any]]:
    """Return the alerts by name."""
    return {rule["alert"]: rule for group in groups() for rule in group["rules"] if "alert" in rule}


def shorter(text: str, factor: float) -> str:
    """Return a text with every duration in it divided by `factor`."""

    def one(found: re.Match[str]) -> str:
        return f"{max(1, round(1000 * int(found[1]) * SECONDS[found[2]] / factor))}ms"

    return DURATION.sub(one, text)


def faster(expression: str, factor: float) -> str:
    """Return an expression with its windows and offsets divided by `factor`."""
    return re.sub(r"\[[^]]*\]|offset \w+", lambda part: shorter(part[0], factor), expression)


def sped_up(factor: float) -> dict[str, Any]:
    """Return the rules with every window, offset and `for` divided by `factor`; thresholds stay."""

    def rule(old: dict[str, Any]) -> dict[str, Any]:
        times = {"for": shorter(old["for"], factor)} if "for" in old else {}
        return {**old, "expr": faster(old["expr"], factor), **times}

    return {"groups": [{**group, "rules": [rule(one) for one in group["rules"]]} for group in groups()]}
