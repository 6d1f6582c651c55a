"""The first-person pictures' C kernel, where a compiler is: the same pixels as `first_person`, several times faster.

The kernel is compiled when it is first needed and kept beside numba's compiled code, named by the digest of its source.
Nobody has to have a compiler: without one, or with ADA_NATIVE=0, the numba functions draw.
"""

import ctypes
import functools
import hashlib
import math
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ada_sim import constants as c
from ada_sim.engine import code_folder
from ada_sim.engine.terrain import FAR
from ada_sim.engine.types import TASK, WORLD
from ada_sim.render import bodies, first_person, palette
from ada_sim.tasks.task import Tile

Draw = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], None]
COMPILE_S = 120
FLAGS = ("-O3", "-march=native", "-std=c11", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math")


@functools.cache
def native_draw() -> Draw | None:
    """Return the C kernel as a function of worlds, tasks, chosen worlds and frames; None where it can't be had."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None or os.environ.get("ADA_NATIVE") == "0":
        return None
    try:
        library = ctypes.CDLL(str(_library(compiler)))
    except (OSError, subprocess.SubprocessError):  # no compiler that works, or nowhere to keep its work
        return None
    kernel = library.draw_worlds
    kernel.restype = None
    kernel.argtypes = [ctypes.c_void_p] * 3 + [ctypes.c_int64] * 2 + [ctypes.c_void_p]

    def draw(worlds: np.ndarray, tasks: np.ndarray, chosen: np.ndarray, frames: np.ndarray) -> None:
        if not frames.flags.c_contiguous:
            raise ValueError("frames are not contiguous")
        count, players = frames.shape[:2]
        kernel(worlds.ctypes.data, tasks.ctypes.data, chosen.ctypes.data, count, players, frames.ctypes.data)

    return draw


def _library(compiler: str) -> Path:
    """Return the compiled kernel, compiling it if its source has not been compiled here before."""
    source = _constants() + Path(__file__).with_name("first_person.c").read_text()
    digest = hashlib.sha256(repr((source, compiler, FLAGS, _processor())).encode()).hexdigest()[:16]
    folder = code_folder()
    path = folder / f"first_person-{digest}.so"
    if not path.exists():
        with tempfile.TemporaryDirectory(dir=folder) as scratch:  # renamed when whole: several processes may do this
            text, built = Path(scratch, "first_person.c"), Path(scratch, "built.so")
            text.write_text(source)
            command = [compiler, *FLAGS, "-shared", "-fPIC", "-o", str(built), str(text), "-lm"]
            subprocess.run(command, check=True, capture_output=True, timeout=COMPILE_S)
            built.rename(path)
    return path


def _processor() -> str:
    """Return what tells processors apart: -march=native code of one may not run on another."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return "".join(sorted({line for line in lines if line.startswith(("model name", "flags"))}))


def _constants() -> str:
    """Return C definitions of every number that the kernel shares with Python, record layouts among them."""
    numbers: dict[str, float] = {
        "W": c.IMAGE_WIDTH_PX,
        "H": c.IMAGE_HEIGHT_PX,
        "MAX_BODIES": c.MAX_BODIES,
        "FIRST_OBJECT": c.FIRST_OBJECT,
        "LEVEL_HEIGHT_M": c.LEVEL_HEIGHT_M,
        "EYE_ABOVE_CENTRE_M": c.EYE_ABOVE_CENTRE_M,
        "FOCAL_PX": first_person.FOCAL_PX,
        "NEAR_M": first_person.NEAR_M,
        "NEAREST_M": bodies.NEAREST_M,
        "MISS": bodies.MISS,
        "FAR": FAR,
        "SPHERE": bodies.SPHERE,
        "PYRAMID": bodies.PYRAMID,
        "PLAYER": bodies.PLAYER,
        "VISOR_M": 0.75 * c.PLAYER_RADIUS_M,
        "FOG_PER_M": palette.FOG_PER_M,
        "LEVEL_BRIGHTER": palette.LEVEL_BRIGHTER,
        "WALL": int(Tile.WALL),
        "PIT": int(Tile.PIT),
        "NORTH": int(Tile.RAMP_NORTH),
        "EAST": int(Tile.RAMP_EAST),
        "SOUTH": int(Tile.RAMP_SOUTH),
        "WEST": int(Tile.RAMP_WEST),
        "WORLD_SIZE": WORLD.itemsize,
        "TASK_SIZE_BYTES": TASK.itemsize,
    }
    for record, name, fields in (
        (WORLD, "WORLD", ("active", "used", "kind", "position", "cos_yaw", "sin_yaw", "tan_pitch")),
        (TASK, "TASK", ("size", "cell")),
    ):
        assert record.fields is not None
        numbers |= {f"{name}_{field.upper()}": record.fields[field][1] for field in fields}
    reach = np.array([math.sqrt(half[0] ** 2 + half[1] ** 2) for half in c.HALF])
    arrays = {"HALF": c.HALF, "REACH_M": reach, "LIGHT": bodies.LIGHT}
    arrays |= {name: value for name, value in vars(palette).items() if name.endswith("_RGB")}
    lines = [f"#define {name} {value!r}" for name, value in numbers.items()]
    for name, array in arrays.items():
        sizes = "".join(f"[{n}]" for n in array.shape)
        rows = repr(array.tolist()).replace("[", "{").replace("]", "}")
        lines.append(f"static const double {name}{sizes} = {rows};")
    return "\n".join(lines) + "\n"
