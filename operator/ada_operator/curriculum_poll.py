"""Asks the curriculum services of experiments how they progress (`GET /v1/progress`), and of them what a plan wants.

Each experiment that is followed is asked on its own, beside its reconciliations: a service that does not answer holds
up nobody, not even its own experiment. An answer that says something new is announced; one whose figures alone grew is
routine, and with many experiments only now and then, since each costs a write. Many experiments are asked less often
each, silent ones less and less often.

The last answer of each is kept with its age, for a plan that is made while the service does not answer. That is a hint,
not state: a new operator simply asks again.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
from pydantic import ValidationError

from ada_api.progress import Progress
from ada_operator import names
from ada_operator.work_queue import ROUTINE_A_SECOND, Key

logger = logging.getLogger(__name__)

TIMEOUT_S = 3.0
LARGEST_ANSWER = 1 << 20  # bytes; 32 stages fit many times over
AT_ONCE = 256
SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 5.0, 20.0  # between two questions to one service
QUESTIONS_A_SECOND = 50.0  # to all of them
FIGURES = {"frames", "frames_per_second", "updates", "score", "score_by_trial", "last_progress"}
URL_TEMPLATE = "http://{address}"  # ADA_CURRICULUM_URL_TEMPLATE: {address}, {namespace}, {name}


@dataclass(frozen=True)
class Answer:
    """Progress of an experiment, when it was read, and since when it says the same, on the poll's clock."""

    progress: Progress
    read_at: float
    same_since: float


@dataclass
class _Followed:
    """An experiment that is asked again and again."""

    token: str
    task: asyncio.Task[None]


def pause_s(followed: int, silent: int, share: float) -> float:
    """Return how long to wait before a service is asked again.

    Args:
        followed: number of services that are asked.
        silent: questions in a row that this one did not answer.
        share: jitter from [0, 1), drawn at random by the caller.
    """
    usual = max(SHORTEST_PAUSE_S, followed / QUESTIONS_A_SECOND) * 2.0 ** min(silent, 10)
    return min(usual, LONGEST_PAUSE_S) * (0.9 + 0.2 * share)


class CurriculumPoll:
    """A client of many curriculum services."""

    def __init__(self, url_template: str = URL_TEMPLATE, clock: Callable[[], float] = time.monotonic) -> None:
        self._url_template, self._clock = url_template, clock
        connector = aiohttp.TCPConnector(limit=AT_ONCE)
        self._session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=TIMEOUT_S))
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._answers: dict[Key, Answer] = {}
        self._silent: dict[Key, int] = {}  # questions in a row that were not answered
        self._followed: dict[Key, _Followed] = {}
        # Called when an answer says something new, and whether that is routine.
        self.announce: Callable[[Key, bool], None] = lambda key, routine: None

    async def close(self) -> None:
        """Ask nobody any more, and close the connections."""
        tasks = [one.task for one in self._followed.values()]
        for key in list(self._followed):
            self.unfollow(key)
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._session.close()

    def follow(self, key: Key, token: str) -> None:
        """Ask an experiment's service again and again, from now on."""
        known = self._followed.get(key)
        if known is not None:
            known.token = token
            return
        self._followed[key] = _Followed(token, asyncio.create_task(self._keep_asking(key)))

    def unfollow(self, key: Key) -> None:
        """Ask no more; the last answer stays known and grows older."""
        known = self._followed.pop(key, None)
        if known is not None:
            known.task.cancel()

    def forget(self, key: Key) -> None:
        """Drop all that is known of an experiment that is gone."""
        self.unfollow(key)
        self._answers.pop(key, None)
        self._silent.pop(key, None)

    def last(self, key: Key) -> tuple[Progress | None, float | None]:
        """Return the last answer of an experiment and its age in seconds."""
        answer = self._answers.get(key)
        return (answer.progress, self._clock() - answer.read_at) if answer else (None, None)

    def is_silent(self, key: Key) -> bool:
        """Return whether an experiment's service was asked and did not answer, the last time."""
        return key in self._silent

    def unchanged_s(self, key: Key) -> float | None:
        """Return for how long an experiment's answers have been the same; None if there is none."""
        answer = self._answers.get(key)
        return answer.read_at - answer.same_since if answer else None

    async def _keep_asking(self, key: Key) -> None:
        told_at = self._clock()
        while True:
            before, _ = self.last(key)
            await self.ask(key, self._followed[key].token)
            after, _ = self.last(key)
            routine = _without_figures(after) == _without_figures(before)
            due = self._clock() - told_at >= len(self._followed) / ROUTINE_A_SECOND
            if after != before and (due or not routine):
                told_at = self._clock()
                self.announce(key, routine)
            await asyncio.sleep(pause_s(len(self._followed), self._silent.get(key, 0), random.random()))

    async def ask(self, key: Key, token: str) -> None:
        """Ask an experiment's service and keep the answer; if there is none, the last one just grows older."""
        try:
            progress = Progress.model_validate_json(await self._request("GET", key, token, "/v1/progress"))
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            # ValidationError's text repeats the input, which is the service's business, not the log's
            said = f"{error.error_count()} invalid fields" if isinstance(error, ValidationError) else error
            level = logging.DEBUG if key in self._silent else logging.WARNING  # once, not every few seconds
            logger.log(level, "%s/%s: no progress to be had: %s %s", *key, type(error).__name__, said)
            self._silent[key] = self._silent.get(key, 0) + 1
            return
        if progress.experiment != "/".join(key):
            logger.warning("%s/%s: its curriculum service answers for %s", *key, progress.experiment)
            self._silent[key] = self._silent.get(key, 0) + 1
            return
        now, before = self._clock(), self._answers.get(key)
        same_since = before.same_since if before and before.progress == progress else now
        self._answers[key] = Answer(progress, now, same_since)
        if self._silent.pop(key, 0):
            logger.info("%s/%s: its curriculum service answers again", *key)

    async def send(self, key: Key, token: str, path: str, body: dict[str, str]) -> None:
        """Send a plan's request; if it fails, the next plan asks again."""
        try:
            await self._request("POST", key, token, path, body)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            logger.warning("%s/%s: %s was not heard: %s %s", *key, path, type(error).__name__, error)

    async def _request(self, method: str, key: Key, token: str, path: str, body: dict[str, str] | None = None) -> bytes:
        namespace, name = key
        address = names.curriculum_address(name, namespace)
        url = self._url_template.format(address=address, namespace=namespace, name=name) + path
        headers = {"Authorization": f"Bearer {token}"}
        async with (
            self._slots,
            self._session.request(method, url, headers=headers, json=body, allow_redirects=False) as response,
        ):
            response.raise_for_status()
            return await _body(response)


def _without_figures(progress: Progress | None) -> dict[str, Any] | None:
    """Return what is news at once: all but figures that always grow or waver."""
    return None if progress is None else progress.model_dump(exclude={"stages": {"__all__": FIGURES}})


async def _body(response: aiohttp.ClientResponse) -> bytes:
    """Return the body of a response; ValueError if it is larger than an answer can be."""
    content = bytearray()
    async for chunk in response.content.iter_chunked(1 << 16):
        content += chunk
        if len(content) > LARGEST_ANSWER:
            raise ValueError(f"the answer is larger than {LARGEST_ANSWER} bytes")
    return bytes(content)
