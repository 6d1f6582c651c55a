"""Talking to the curriculum service from the runner: one request at a time, in the background."""

import http.client
import json
from concurrent.futures import Future, ThreadPoolExecutor

from pydantic import ValidationError

from ada_api.progress import Progress
from ada_operator.view import Request

TIMEOUT_S = 3.0
INTERVAL_S = 0.5


class CurriculumPoll:
    """Reads the progress again and again, and hands on requests; never blocks the caller."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._pool = ThreadPoolExecutor(1, "curriculum")
        self._asked = 0.0
        self._answer: Future[Progress | None] | None = None
        self._sent: Future[None] | None = None
        self.progress: Progress | None = None
        self.read_at: float | None = None
        self.silent = False  # whether the last question was not answered

    def look(self, token: str, now: float) -> None:
        """Take an answer that arrived, and ask again when it is time."""
        if self._answer is not None and self._answer.done():
            answer, self._answer = self._answer.result(), None
            self.silent = answer is None
            if answer is not None:
                self.progress, self.read_at = answer, now
        if self._answer is None and now - self._asked >= INTERVAL_S:
            self._asked = now
            self._answer = self._pool.submit(self._read, token)

    def send(self, request: Request, token: str) -> None:
        """Send a request unless one is under way; the plan repeats what is still wanted."""
        if self._sent is None or self._sent.done():
            self._sent = self._pool.submit(self._post, request, token)

    def age_s(self, now: float) -> float | None:
        """Return the seconds since the progress was read."""
        return None if self.read_at is None else now - self.read_at

    def close(self) -> None:
        """Ask no more."""
        self._pool.shutdown(cancel_futures=True)

    def _read(self, token: str) -> Progress | None:
        answer = self._request("GET", "/v1/progress", None, token)
        if answer is None:
            return None
        try:
            return Progress.model_validate_json(answer)
        except ValidationError:
            return None  # something else answers there; the readiness probe will tell

    def _post(self, request: Request, token: str) -> None:
        self._request("POST", request.path, json.dumps(request.body), token)

    def _request(self, method: str, path: str, body: str | None, token: str) -> bytes | None:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT_S)
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
            return content if answer.status == 200 else None
        except (OSError, http.client.HTTPException):
            return None  # not up yet, or gone; the plan waits for it
        finally:
            connection.close()
