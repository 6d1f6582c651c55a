"""Probe tasks, hand-drawn after the names and descriptions of AdA's (tables F.1, F.2): templates without variables.

They lie beside this module as `probes/NAME.task`. AdA's own drawings are not published; worlds and rules are ours.
"""

from functools import cache
from importlib.resources import files

from ada_sim.tasks.task import Task
from ada_sim.tasks.template import read_template

_FOLDER = files("ada_sim.tasks").joinpath("probes")
_ENDING = ".task"


@cache
def probe_names(players: int) -> tuple[str, ...]:
    """Return the names of the probe tasks for one or two players, sorted."""
    names = sorted(entry.name.removesuffix(_ENDING) for entry in _FOLDER.iterdir() if entry.name.endswith(_ENDING))
    return tuple(name for name in names if len(probe(name).spawns) == players)


@cache
def probe(name: str) -> Task:
    """Return a probe task; raises ValueError for a name that none has."""
    return read_template(name, probe_text(name)).task(0)


def probe_text(name: str) -> str:
    """Return a probe task as it is drawn; raises ValueError for a name that none has."""
    entry = _FOLDER.joinpath(name + _ENDING)
    if not entry.is_file():
        raise ValueError(f"there is no probe task {name!r}; `python -m ada_sim tasks probes` lists them")
    return entry.read_text()
