"""`--set spec.stages[0].frames=3000`: one value of a document changed by its path."""

import copy
import re
from itertools import pairwise
from typing import Any

from ada_api.validation import parse

PIECE = re.compile(r"([A-Za-z][A-Za-z0-9]*)((?:\[\d+\])*)")


class PathError(ValueError):
    """The setting can't be understood or applied."""


def with_value(document: object, setting: str) -> object:
    """Return the document with `PATH=VALUE` applied; the value is YAML."""
    path, mark, text = setting.partition("=")
    if not mark:
        raise PathError("it must read PATH=VALUE, as spec.seed=3")
    keys = _keys(path.strip())
    changed = copy.deepcopy(document)
    place: Any = changed
    for key, following in pairwise(keys):
        place = _step(place, key, [] if isinstance(following, int) else {})
    _step(place, keys[-1], None)
    try:
        place[keys[-1]] = parse(text.encode())
    except ValueError as error:
        raise PathError(str(error)) from None
    return changed


def _keys(path: str) -> list[str | int]:
    keys: list[str | int] = []
    for piece in path.split("."):
        match = PIECE.fullmatch(piece)
        if match is None:
            raise PathError(f"{piece!r} is no field: a path reads spec.stages[0].frames")
        keys.append(match[1])
        keys.extend(int(position) for position in re.findall(r"\d+", match[2]))
    return keys


def _step(place: Any, key: str | int, default: Any) -> Any:
    """Return what is under the key; objects on the way are made, lists are not lengthened."""
    if isinstance(key, int):
        if not isinstance(place, list) or key >= len(place):
            raise PathError(f"there is no [{key}]")
        return place[key]
    if not isinstance(place, dict):
        raise PathError(f"{key} has no place in {type(place).__name__}")
    if place.get(key) is None and default is not None:
        place[key] = default
    return place.get(key)
