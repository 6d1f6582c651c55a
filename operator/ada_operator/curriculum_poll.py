"""Asks the curriculum services of experiments how they progress (`GET /v1/progress`), and of them what a plan wants.

Never for long, and never many at once.

The last answer of each is kept with its age, for a plan that is made while the service does not answer. That is a hint,
not state: a new operator simply asks again.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp
from pydantic import ValidationError

from ada_api.progress import Progress
from ada_operator import names
from ada_operator.work_queue import Key

logger = logging.getLogger(__name__)

TIMEOUT_S = 3.0
LARGEST_ANSWER = 1 << 20  # bytes; 32 stages fit many times over
AT_ONCE = 32
URL_TEMPLATE = "http://{address}"  # ADA_CURRICULUM_URL_TEMPLATE: {address}, {namespace}, {name}


@dataclass(frozen=True)
class Answer:
    """Progress of an experiment and when it was read, on the poll's clock."""

    progress: Progress
    read_at: float


class CurriculumPoll:
    """A client of many curriculum services."""

    def __init__(self, url_template: str = URL_TEMPLATE, clock: Callable[[], float] = time.monotonic) -> None:
        self._url_template, self._clock = url_template, clock
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S))
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._answers: dict[Key, Answer] = {}
        self._silent: set[Key] = set()  # those that did not answer the last time

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    def forget(self, key: Key) -> None:
        """Drop the last answer of an experiment that is gone."""
        self._answers.pop(key, None)
        self._silent.discard(key)

    def last(self, key: Key) -> tuple[Progress | None, float | None]:
        """Return the last answer of an experiment and its age in seconds."""
        answer = self._answers.get(key)
        return (answer.progress, self._clock() - answer.read_at) if answer else (None, None)

    async def ask(self, key: Key, token: str) -> None:
        """Ask an experiment's service and keep the answer; if there is none, the last one just grows older."""
        try:
            progress = Progress.model_validate_json(await self._request("GET", key, token, "/v1/progress"))
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            # ValidationError's text repeats the input, which is the service's business, not the log's
            said = f"{error.error_count()} invalid fields" if isinstance(error, ValidationError) else error
            level = logging.DEBUG if key in self._silent else logging.WARNING  # once, not every few seconds
            logger.log(level, "%s/%s: no progress to be had: %s %s", *key, type(error).__name__, said)
            self._silent.add(key)
            return
        if progress.experiment != "/".join(key):
            logger.warning("%s/%s: its curriculum service answers for %s", *key, progress.experiment)
            return
        self._answers[key] = Answer(progress, self._clock())
        if key in self._silent:
            self._silent.remove(key)
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


async def _body(response: aiohttp.ClientResponse) -> bytes:
    """Return the body of a response; ValueError if it is larger than an answer can be."""
    content = bytearray()
    async for chunk in response.content.iter_chunked(1 << 16):
        content += chunk
        if len(content) > LARGEST_ANSWER:
            raise ValueError(f"the answer is larger than {LARGEST_ANSWER} bytes")
    return bytes(content)
