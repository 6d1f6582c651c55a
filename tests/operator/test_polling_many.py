"""A thousand curriculum services are asked in one thread, and one that never answers holds up none of the others."""

import asyncio
import threading

from aiohttp import web

from ada_api.progress import Progress
from ada_operator import curriculum_poll
from ada_operator.curriculum_poll import LONGEST_PAUSE_S, QUESTIONS_A_SECOND, CurriculumPoll, pause_s

MANY = 1000
SILENT = ("ns", "silent")


async def ask_many() -> tuple[set[str], int, dict[tuple[str, str], int]]:
    """Follow many experiments until all but the silent one have answered; return who did, threads, and questions."""
    never = asyncio.Event()
    asked: dict[tuple[str, str], int] = {}

    async def answer(request: web.Request) -> web.Response:
        key = request.match_info["namespace"], request.match_info["name"]
        asked[key] = asked.get(key, 0) + 1
        if key == SILENT:
            await never.wait()
        return web.json_response(text=Progress(experiment="/".join(key), stages=[]).model_dump_json(by_alias=True))

    application = web.Application()
    application.router.add_get("/{namespace}/{name}/v1/progress", answer)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    poll = CurriculumPoll(f"http://{host}:{port}/{{namespace}}/{{name}}")
    keys = [SILENT, *(("ns", f"run-{number}") for number in range(MANY))]
    told: set[str] = set()
    poll.announce = lambda key, routine: told.add(key[1])
    try:
        for key in keys:
            poll.follow(key, "token")
        async with asyncio.timeout(120):
            while len(told) < MANY:
                await asyncio.sleep(0.02)
        return told, threading.active_count(), asked
    finally:
        never.set()
        await poll.close()
        await runner.cleanup()


def test_a_thousand_services_are_asked_without_a_thread_each_and_a_silent_one_holds_up_none(monkeypatch):
    monkeypatch.setattr(curriculum_poll, "TIMEOUT_S", 60.0)  # one process plays all of them, on a busy machine
    before = threading.active_count()
    told, threads, asked = asyncio.run(ask_many())
    assert "silent" not in told and len(told) == MANY
    assert threads <= before + 2, "one for looking up addresses is enough"
    assert set(asked) == {SILENT, *(("ns", name) for name in told)}


def test_many_services_are_asked_so_seldom_that_the_questions_a_second_stay_bounded():
    assert MANY / pause_s(MANY, 0, 0.5) <= QUESTIONS_A_SECOND
    assert pause_s(100_000, 0, 0.5) <= LONGEST_PAUSE_S * 1.1, "an answer must not get too old to act on"
    assert pause_s(1, 3, 0.5) > pause_s(1, 0, 0.5), "a silent one is asked less and less often"
