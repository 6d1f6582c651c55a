"""The trainers' side of the curriculum service: one method a request, over kept connections.

Every request may be repeated without harm, so a lost connection or a service that restarts costs waiting only, up to
`patience_s`.
"""

import http.client
import json
import math
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal
from urllib.parse import urlencode

from ada_api.progress import Progress, TrialScore
from ada_curriculum.line import LEASE, REPORT, Line
from ada_curriculum.types import Lease, Result

PATIENCE_S = 60.0
REQUEST_TIMEOUT_S = 60.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0
MAX_ANSWER_BYTES = 1 << 30
RETRIED_STATUSES = (429, 502, 503, 504)
CALLS = {LEASE: "lease", REPORT: "report"}  # on the direct line


class CurriculumError(Exception):
    """The curriculum service did not do what it was asked."""


class CurriculumUnavailable(CurriculumError):  # noqa: N818 - names a state, and is part of the interface
    """It could not be reached, or could not serve, for as long as we were willing to wait."""


class CurriculumRefused(CurriculumError):  # noqa: N818
    """It refused the request; asking again will not help."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class GenerationOver(CurriculumRefused):
    """A newer generation of the training group is known: this one must end."""


@dataclass(frozen=True, slots=True)
class Advance:
    """What the operator asks for."""

    commit: bool
    stop: bool


class CurriculumClient:
    """Safe for threads: requests are sent one after another."""

    def __init__(
        self,
        address: str,
        token: str,
        patience_s: float = PATIENCE_S,
        sleep: Callable[[float], None] = time.sleep,
        at_most_s: Callable[[], float] = lambda: math.inf,
    ) -> None:
        """Connect at the first request.

        Args:
            address: `host:port`.
            patience_s: how long a request is tried before CurriculumUnavailable.
            at_most_s: asked before each further try; may shorten the patience while we wait.
        """
        self.address = address
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self._patience_s = patience_s
        self._sleep = sleep
        self._at_most_s = at_most_s
        self._token = token
        self._line: Line | None = None
        self._connection: http.client.HTTPConnection | None = None
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the connections; the next request opens another."""
        with self._lock:
            self._disconnect()

    def __enter__(self) -> "CurriculumClient":
        """Return the client itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        self.close()

    def progress(self) -> Progress:
        """Return how far every stage has come."""
        return Progress.model_validate_json(self._ask("GET", "/v1/progress"))

    def register(self, stage: str, generation: int, workers: int) -> None:
        """Begin a generation. Raises GenerationOver if a newer one is known."""
        self._post("/v1/register", {"stage": stage, "generation": generation, "workers": workers})

    def lease(self, stage: str, generation: int, worker: str, count: int) -> list[Lease]:
        """Return `count` episodes to play."""
        body = {"stage": stage, "generation": generation, "worker": worker, "count": count}
        return [Lease(**lease) for lease in self._call(LEASE, body)["leases"]]

    def report(self, stage: str, generation: int, worker: str, results: Sequence[Result]) -> None:
        """Report finished episodes; each counts once, however often it is reported."""
        body = {"stage": stage, "generation": generation, "worker": worker}
        self._call(REPORT, {**body, "results": [_result_body(result) for result in results]})

    def advance(
        self,
        stage: str,
        generation: int,
        frames: int,
        updates: int,
        skipped_updates: int = 0,
        metrics: Mapping[str, float] | None = None,
    ) -> Advance:
        """Tell how far training has come; metrics that are not finite are left out."""
        finite = {name: float(value) for name, value in (metrics or {}).items() if math.isfinite(value)}
        body = {"stage": stage, "generation": generation, "frames": frames, "updates": updates}
        return Advance(**self._post("/v1/advance", {**body, "skipped_updates": skipped_updates, "metrics": finite}))

    def snapshot(self, stage: str) -> bytes:
        """Return a stage's whole curriculum state and history, for a checkpoint."""
        return self._ask("GET", f"/v1/snapshot?{urlencode({'stage': stage})}")

    def history(self, stage: str) -> list[dict[str, Any]]:
        """Return the points of a stage's learning curve."""
        points: list[dict[str, Any]] = json.loads(self._ask("GET", f"/v1/history?{urlencode({'stage': stage})}"))[
            "points"
        ]
        return points

    def commit(self, stage: str, generation: int, uri: str, digest: str, frames: int) -> None:
        """Announce a checkpoint that is committed."""
        body = {"stage": stage, "generation": generation, "uri": uri, "digest": digest, "frames": frames}
        self._post("/v1/commit", body)

    def restore(self, stage: str, generation: int, uri: str, digest: str) -> None:
        """Make the stage's curriculum what it was at a checkpoint."""
        self._post("/v1/restore", {"stage": stage, "generation": generation, "uri": uri, "digest": digest})

    def finish(self, stage: str, generation: int, outcome: Literal["trained", "failed"], message: str = "") -> None:
        """Tell that a stage is over."""
        body = {"stage": stage, "generation": generation, "outcome": outcome, "message": message}
        self._post("/v1/finish", body)

    def evaluation(self, stage: str, scores: Sequence[TrialScore], best_score: float | None = None) -> None:
        """Tell how a stage was judged."""
        dumped = [score.model_dump(by_alias=True) for score in scores]
        self._post("/v1/evaluation", {"stage": stage, "scores": dumped, "best_score": best_score})

    def suspend(self, stage: str) -> None:
        """Ask the stage's group to commit and stop."""
        self._post("/v1/suspend", {"stage": stage})

    def _post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self._ask("POST", path, json.dumps(body, allow_nan=False).encode()))
        return answer

    def _call(self, kind: int, body: Mapping[str, Any]) -> dict[str, Any]:
        """Ask on the direct line."""
        data = json.dumps(body, allow_nan=False).encode()
        answer: dict[str, Any] = json.loads(self._try(CALLS[kind], lambda: self._send_direct(kind, data)))
        return answer

    def _ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """Ask over HTTP."""
        return self._try(f"{method} {path.partition('?')[0]}", lambda: self._send(method, path, body))

    def _try(self, what: str, send: Callable[[], bytes]) -> bytes:
        """Send a request until it is answered, refused, or patience ends."""
        began = time.monotonic()
        pause = FIRST_PAUSE_S
        with self._lock:
            while True:
                reused = self._connection is not None or self._line is not None
                try:
                    return send()
                except (OSError, http.client.HTTPException, CurriculumUnavailable) as error:
                    self._disconnect()
                    if reused and isinstance(error, http.client.RemoteDisconnected | ConnectionError):
                        continue  # the kept connection was stale; a fresh one may do
                    patience_s = min(self._patience_s, self._at_most_s())
                    if time.monotonic() + pause > began + patience_s:
                        raise CurriculumUnavailable(
                            f"curriculum service at {self.address} did not answer {what} "
                            f"within {patience_s:g} s: "
                            f"{type(error).__name__}: {error}"
                        ) from error
                self._sleep(pause * random.uniform(0.5, 1.0))
                pause = min(2 * pause, LONGEST_PAUSE_S)

    def _timeout_s(self) -> float:
        return min(REQUEST_TIMEOUT_S, self._at_most_s())

    def _send(self, method: str, path: str, body: bytes | None) -> bytes:
        if self._connection is None:
            self._connection = http.client.HTTPConnection(self.address, timeout=self._timeout_s())
        self._connection.request(method, path, body, self._headers)
        answer = self._connection.getresponse()
        data = answer.read(MAX_ANSWER_BYTES)
        return _granted(f"{method} {path.partition('?')[0]}", answer.status, data, answer.reason)

    def _send_direct(self, kind: int, body: bytes) -> bytes:
        if self._line is None:
            line = Line(self.address, self._token, self._timeout_s(), MAX_ANSWER_BYTES)
            try:
                _granted("the direct line", *line.welcome)
            except CurriculumError:
                line.close()
                raise
            self._line = line
        return _granted(CALLS[kind], *self._line.ask(kind, body))

    def _disconnect(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _granted(what: str, status: int, data: bytes, reason: str = "") -> bytes:
    """Return the body of an answer; raises what its status says."""
    if status == 200:
        return data
    message = _message(data, reason)
    if status in RETRIED_STATUSES:
        raise CurriculumUnavailable(message)
    kind = GenerationOver if status == 409 else CurriculumRefused
    raise kind(status, f"{what} was refused ({status}): {message}")


def _result_body(result: Result) -> dict[str, Any]:
    # Written out, as dataclasses.asdict costs more than the request.
    return {
        "lease": result.lease,
        "returns": result.returns,
        "fitness": result.fitness,
        "timesteps": result.timesteps,
    }


def _message(data: bytes, reason: str) -> str:
    try:
        return str(json.loads(data)["error"])
    except (ValueError, KeyError, TypeError):
        return reason
