"""An operator that dies between any two writes, or before it hears the answer to one, is carried on by the next one."""

import asyncio
import os
import time
from dataclasses import dataclass
from typing import Any

import pytest
from tests.control_plane import life, troubled_life
from tests.control_plane.api_proxy import ApiProxy
from tests.control_plane.forked_operators import Operators
from tests.control_plane.life import Life, services
from tests.control_plane.operators import PatientCluster
from tests.control_plane.troubled_life import TroubledLife

from ada_operator.cluster import load_configuration

LONG = bool(os.environ.get("ADA_TEST_LONG"))  # every write and both ends of it; else a few, spread over the life
STRIDE = 20
AT_ONCE = int(os.environ.get("ADA_TEST_LIVES", "16"))  # lives on one control plane; each is mostly waiting
# Where the last writes of a life come from, and how many, depends a little on who looks when.
NEVER_REACHED = 0.1  # of the points, at most
LIVES = {"plain": (Life, life.experiment)}
if LONG:
    LIVES["troubled"] = (TroubledLife, troubled_life.experiment)


@dataclass(frozen=True)
class Point:
    """Where an operator is killed: at a write (from 0), before it is sent or before it is answered."""

    number: int
    landed: bool

    def __str__(self) -> str:
        return f"write {self.number}, {'answer lost' if self.landed else 'not sent'}"


def chosen(writes: int) -> list[Point]:
    """Return the points of a life: all of them, or a few of the harder half: what was written is not known."""
    if not LONG:
        return [Point(number, True) for number in range(0, writes, STRIDE)]
    return [Point(number, landed) for number in range(writes) for landed in (False, True)]


@dataclass
class Deaths:
    """Kills the operator of a namespace at its point, once."""

    operators: Operators
    points: dict[str, Point]  # by namespace
    done: dict[str, Point]

    async def on_write(self, namespace: str, number: int, landed: bool) -> bool:
        """Return whether whoever wrote is alive."""
        if namespace in self.done or self.points.get(namespace) != Point(number, landed):
            return True
        self.operators.made[namespace].kill()
        self.done[namespace] = self.points[namespace]
        return False


@pytest.mark.timeout(3600 if LONG else 900)
@pytest.mark.parametrize("kind", LIVES)
def test_whichever_write_an_operator_dies_at_the_next_one_comes_to_the_same_end(plane, make_spaces, tmp_path, kind):
    """A teacher and its student, from apply to Succeeded; object by object, and no child was made once too often."""
    make_life, experiment = LIVES[kind]

    async def every_crash() -> tuple[dict[str, Any], dict[Point, dict[str, Any]], Deaths]:
        admin = PatientCluster(await load_configuration(str(plane.kubeconfig)))
        proxy, slots = ApiProxy(plane.kubeconfig), asyncio.Semaphore(AT_ONCE)
        async with services() as served, proxy.running(tmp_path) as kubeconfig:
            operators = Operators(admin, kubeconfig, served.url, tmp_path)
            deaths = Deaths(operators, {}, {})
            proxy.on_write = deaths.on_write

            async def one(namespace: str) -> dict[str, Any]:
                async with slots, operators.running(namespace) as operator:
                    began, played = time.monotonic(), make_life(admin, served, namespace)
                    try:
                        await played.play()
                    except AssertionError as error:
                        error.add_note(operator.said())
                        raise
                    print(
                        f"{namespace}: {deaths.done.get(namespace)}, {operator.starts} starts, "
                        f"{proxy.writes[namespace]} writes, {time.monotonic() - began:.0f} s",
                        flush=True,
                    )
                    return await played.end()

            (undisturbed,) = make_spaces(1, experiment)
            expected = await one(undisturbed)
            writes = proxy.writes[undisturbed]
            assert writes > 30, writes
            repeated = [path for (_, path), times in proxy.applied.items() if times > 1 and "/configmaps/" not in path]
            if kind == "plain":  # a stage's settings name what the one before it made; all else is applied once
                assert not repeated, repeated
            points = chosen(writes)
            names = make_spaces(len(points), experiment)
            deaths.points |= dict(zip(names, points, strict=True))
            try:
                ends = await asyncio.gather(*map(one, names))
            finally:
                await admin.close()
            print(f"{writes} writes in an undisturbed life; {len(points)} points, {len(deaths.done)} operators killed")
            return expected, dict(zip(points, ends, strict=True)), deaths

    expected, ends, deaths = asyncio.run(every_crash())
    check_undisturbed(kind, expected)
    wrong = {str(point): differences(expected, found) for point, found in ends.items() if found != expected}
    assert not wrong, f"{len(wrong)} of {len(ends)} came to another end: {wrong}"
    assert len(deaths.done) >= (1 - NEVER_REACHED) * len(ends), f"only {len(deaths.done)} of {len(ends)} were killed"


def check_undisturbed(kind: str, end: dict[str, Any]) -> None:
    """Fail unless a life in which no operator died came to the end that it should."""
    assert end["status"]["phase"] == "Succeeded"
    if kind == "plain":
        assert set(end["made"].values()) == {1}
        return
    went_wrong = [stage["restarts"] for stage in end["status"]["stages"]]
    assert (went_wrong[0]["notFinite"], went_wrong[1]["code"]) == (1, 1)
    assert end["status"]["restarts"] == 2
    assert end["resumed"] == {"teacher 2": "file:///store/teacher/250"}


def differences(expected: Any, found: Any, path: str = "") -> list[str]:
    """Return where two ends differ."""
    if expected == found:
        return []
    if isinstance(expected, dict) and isinstance(found, dict):
        keys = sorted({*expected, *found}, key=str)
        return [line for key in keys for line in differences(expected.get(key), found.get(key), f"{path}.{key}")]
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        pairs = enumerate(zip(expected, found, strict=True))
        return [line for number, (a, b) in pairs for line in differences(a, b, f"{path}[{number}]")]
    return [f"{path}: {found!r}, not {expected!r}"]
