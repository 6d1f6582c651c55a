"""What an answer of a curriculum service sets off: figures that grow are routine, anything else is told at once."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from ada_api.progress import Progress, StageProgress
from ada_operator import curriculum_poll
from ada_operator.curriculum_poll import CurriculumPoll

KEY = ("ns", "run")


@asynccontextmanager
async def poll_of(say: Callable[[], str]) -> AsyncIterator[CurriculumPoll]:
    """Yield a poll of one experiment's service, which answers what `say` returns each time."""

    async def answer(request: web.Request) -> web.Response:
        return web.json_response(text=say())

    application = web.Application()
    application.router.add_get("/ns/run/v1/progress", answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    poll = CurriculumPoll(f"http://{host}:{port}/{{namespace}}/{{name}}")
    try:
        yield poll
    finally:
        await poll.close()
        await runner.cleanup()


async def told_of(changes: list[Mapping[str, Any]]) -> list[bool]:
    """Let a service say these things one after the other, once each; return what was announced as routine or not."""
    answers = [StageProgress(stage="only", **change) for change in changes]
    given = 0

    def say() -> str:
        nonlocal given
        stage = answers[min(given, len(answers) - 1)]
        given += 1
        return Progress(experiment="/".join(KEY), stages=[stage]).model_dump_json(by_alias=True)

    told: list[bool] = []
    async with poll_of(say) as poll, asyncio.timeout(30):
        poll.announce = lambda key, routine: told.append(routine)
        poll.follow(KEY, "token")
        while given <= len(answers):
            await asyncio.sleep(0.005)
    return told


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curriculum_poll, "SHORTEST_PAUSE_S", 0.01)


GROWING: list[Mapping[str, Any]] = [{"frames": frames, "score": frames / 100} for frames in range(6)]


def test_the_figures_of_a_few_experiments_are_told_each_time_as_routine(monkeypatch):
    monkeypatch.setattr(curriculum_poll, "ROUTINE_A_SECOND", 1e6)
    assert asyncio.run(told_of(GROWING)) == [False, True, True, True, True, True]


def test_the_figures_of_many_experiments_are_told_now_and_then(monkeypatch):
    monkeypatch.setattr(curriculum_poll, "ROUTINE_A_SECOND", 0.01)  # one alone is many, then
    assert asyncio.run(told_of(GROWING)) == [False]


@pytest.mark.parametrize(
    "news",
    [
        pytest.param({"phase": "trained"}, id="phase"),
        pytest.param({"workers": 2}, id="workers"),
        pytest.param({"skipped_updates": 1}, id="skipped-updates"),
        pytest.param({"message": "not finite"}, id="message"),
        pytest.param({"generation": 2}, id="generation"),
    ],
)
def test_anything_else_is_told_at_once_with_many_too(monkeypatch, news):
    monkeypatch.setattr(curriculum_poll, "ROUTINE_A_SECOND", 0.01)
    changes = [{"phase": "training"} | change for change in (*GROWING, {"frames": 5, "score": 0.05} | news)]
    assert asyncio.run(told_of(changes)) == [False, False]


async def silence(*said: str) -> list[bool]:
    """Ask a service that says these things one after the other; return whether it was held for silent after each."""
    left = list(said)
    async with poll_of(lambda: left.pop(0)) as poll:
        found = [poll.is_silent(KEY)]
        for _ in said:
            await poll.ask(KEY, "token")
            found.append(poll.is_silent(KEY))
    return found


def test_a_service_is_silent_once_it_was_asked_and_gave_no_answer_of_its_own():
    of_this, of_another = (Progress(experiment=name, stages=[]).model_dump_json() for name in ("ns/run", "ns/other"))
    assert asyncio.run(silence("nonsense", of_this, of_another, of_this)) == [False, True, False, True, False]
