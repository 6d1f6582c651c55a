"""The curriculum service: an experiment's front desk, one event loop over the records of its stages.

Handlers do three things in order: check the request, ask or change the record, answer. What must outlive the process is
in the object store before the answer goes out.
"""

import asyncio
import hmac
import json
import logging
import os
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from pydantic import BaseModel, ValidationError

from ada_api.experiment import AdaExperiment
from ada_api.progress import Progress
from ada_curriculum import requests
from ada_curriculum.line import LEASE, REPORT, Door
from ada_curriculum.manifest import CheckpointError, prefix_within, read_checkpoint
from ada_curriculum.measures import TaskMeasures
from ada_curriculum.metrics import StageMetrics
from ada_curriculum.record import SnapshotError, StageRecord
from ada_curriculum.stage import ResultRefusedError, StageCurriculum, make_method, random_generator
from ada_curriculum.standing import committed, load_checkpoint, restore_stage, write_standing
from ada_curriculum.store import ObjectStore, StoreError
from ada_sim.tasks.source import TaskSource

logger = logging.getLogger(__name__)

B = TypeVar("B", bound=BaseModel)
Clock = Callable[[], float]


class RefusedError(Exception):
    """The request can't be served; the message is for the person who sent it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class CurriculumService:
    """The records of an experiment's stages, and the handlers of requests about them."""

    def __init__(
        self, experiment: AdaExperiment, tasks: TaskSource, store: ObjectStore, token: str, clock: Clock = time.time
    ) -> None:
        """Start with empty records.

        Args:
            store: where the experiment's own prefix begins.
            clock: seconds since 1970.
        """
        self._experiment = experiment
        self._tasks = tasks
        self._measures = TaskMeasures(tasks.metrics)
        self._store = store
        self._token = token.encode()
        self._authorization = b"Bearer " + self._token
        self._lines: set[Door] = set()
        self._clock = clock
        name = f"{experiment.metadata.namespace}/{experiment.metadata.name}"
        self._metrics = StageMetrics(name, self._known_records, clock)
        self._records = {stage.name: self._new_record(stage.name) for stage in experiment.spec.stages}
        self._order: list[str] = []  # of first registration
        self._durable_write = {name: asyncio.Lock() for name in self._records}

    def restore(self) -> None:
        """Restore every stage from the store. Raises SnapshotError or StoreError if that can't be."""
        for name, record in self._records.items():
            restore_stage(self._store, record, self._clock())
            if record.known:
                self._order.append(name)

    def application(self) -> web.Application:
        """Return the web application that answers requests."""
        application = web.Application(client_max_size=requests.MAX_BODY_BYTES, middlewares=[self._guard])
        application.add_routes(
            [
                web.get("/v1/progress", self._progress),
                web.get("/v1/snapshot", self._snapshot),
                web.get("/v1/history", self._history),
                web.post("/v1/register", self._register),
                web.post("/v1/lease", self._lease),
                web.post("/v1/report", self._report),
                web.post("/v1/advance", self._advance),
                web.post("/v1/commit", self._commit),
                web.post("/v1/restore", self._restore),
                web.post("/v1/finish", self._finish),
                web.post("/v1/evaluation", self._evaluation),
                web.post("/v1/suspend", self._suspend),
            ]
        )
        return application

    def health_page(self) -> web.Application:
        """Return the web application for probes and scrapers; it answers anybody, so it has a port of its own."""
        registry = CollectorRegistry()
        registry.register(self._metrics)

        async def metrics(request: web.Request) -> web.Response:
            return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

        application = web.Application()
        application.add_routes([web.get("/healthz", self._health), web.get("/metrics", metrics)])
        return application

    def door(self, http: Callable[[], asyncio.Protocol]) -> Door:
        """Return the protocol of a new connection; `http` makes that of one that turns out to speak HTTP."""
        handlers = {LEASE: answering(self.lease), REPORT: answering(self.report)}
        return Door(self._token, handlers, requests.MAX_BODY_BYTES, http, self._lines)

    def hang_up(self) -> None:
        """End all direct lines."""
        for line in list(self._lines):
            line.close()

    def _new_record(self, name: str) -> StageRecord:
        spec = self._experiment.spec
        pool = spec.environment.task_pool
        pool_size = None if spec.environment.templates else pool.worlds * pool.games
        method = make_method(spec.curriculum, pool_size)
        incarnation = int.from_bytes(os.urandom(4), "little")
        curriculum = StageCurriculum(method, self._tasks, random_generator(spec.seed, name), incarnation)
        return StageRecord(name, curriculum, self._measures)

    def _known_records(self) -> list[StageRecord]:
        return [self._records[name] for name in self._order]

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Check the token, and turn every refusal into a status with a message."""
        sent = request.headers.get("Authorization", "").encode(errors="surrogateescape")
        if not hmac.compare_digest(sent, self._authorization):
            return _error(401, "the request carries no token, or not this experiment's")
        try:
            return await handler(request)
        except RefusedError as error:
            return _error(error.status, str(error))
        except (CheckpointError, SnapshotError, ResultRefusedError) as error:
            return _error(400, str(error))
        except StoreError as error:
            self._metrics.store_errors += 1
            logger.warning("%s %s: %s", request.method, request.path, error)
            return _error(503, str(error))
        except web.HTTPException as error:
            return _error(error.status, error.text or error.reason)

    def _record(self, stage: str) -> StageRecord:
        record = self._records.get(stage)
        if record is None:
            raise RefusedError(404, f"experiment has no stage {stage!r}; it has {', '.join(self._records)}")
        return record

    def _current(self, body: requests.GroupBody) -> StageRecord:
        """Return the record of a stage; an older generation than the newest known is refused."""
        record = self._record(body.stage)
        newest = record.standing.generation
        if body.generation < newest:
            raise RefusedError(409, f"generation {body.generation} of stage {body.stage} is over; newest is {newest}")
        record.standing.generation = body.generation
        return record

    async def _make_durable(self, record: StageRecord) -> None:
        async with self._durable_write[record.name]:
            await asyncio.to_thread(write_standing, self._store, record.name, record.standing)

    async def _health(self, request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _progress(self, request: web.Request) -> web.Response:
        metadata, now = self._experiment.metadata, self._clock()
        progress = Progress(
            experiment=f"{metadata.namespace}/{metadata.name}",
            stages=[record.progress(now) for record in self._known_records()],
        )
        return web.Response(text=progress.model_dump_json(by_alias=True), content_type="application/json")

    async def _snapshot(self, request: web.Request) -> web.Response:
        record = self._record(request.query.get("stage", ""))
        return web.Response(body=record.snapshot(), content_type="application/octet-stream")

    async def _history(self, request: web.Request) -> web.Response:
        record = self._record(request.query.get("stage", ""))
        return web.json_response({"points": record.history.points})

    async def _register(self, request: web.Request) -> web.Response:
        body = await _read(request, requests.Register)
        record = self._current(body)
        record.register(body.generation, body.workers)
        if body.stage not in self._order:
            self._order.append(body.stage)
        await self._make_durable(record)
        logger.info("stage %s: generation %d of %d workers", body.stage, body.generation, body.workers)
        return web.json_response({})

    def lease(self, data: bytes) -> bytes:
        """Lend episodes: the body of a request to the body of its answer."""
        body = parse(data, requests.LeaseRequest)
        leases = self._current(body).curriculum.lease(body.count, self._clock())
        return json.dumps({"leases": [{name: getattr(one, name) for name in one.__slots__} for one in leases]}).encode()

    def report(self, data: bytes) -> bytes:
        """Apply results: the body of a request to the body of its answer."""
        body = parse(data, requests.Report)
        record = self._current(body)
        results = [one.to_result() for one in body.results]
        record.curriculum.check(results)
        record.note(record.curriculum.apply(results))
        return b"{}"

    async def _lease(self, request: web.Request) -> web.Response:
        return web.Response(body=self.lease(await request.read()), content_type="application/json")

    async def _report(self, request: web.Request) -> web.Response:
        return web.Response(body=self.report(await request.read()), content_type="application/json")

    async def _advance(self, request: web.Request) -> web.Response:
        body = await _read(request, requests.AdvanceRequest)
        record = self._current(body)
        record.advance(body, self._clock())
        if record.stop_asked:
            record.standing.phase = "committing"
        return web.json_response({"commit": record.stop_asked, "stop": record.stop_asked})

    async def _commit(self, request: web.Request) -> web.Response:
        body = await _read(request, requests.Commit)
        self._current(body)
        prefix = prefix_within(self._store, body.uri)
        checkpoint = await asyncio.to_thread(read_checkpoint, self._store, prefix, body.digest)
        record = self._current(body)  # once more: another generation may have come meanwhile
        record.checkpoint = committed(checkpoint)
        if record.standing.phase == "committing":
            record.standing.phase = "waiting"
        return web.json_response({})

    async def _restore(self, request: web.Request) -> web.Response:
        body = await _read(request, requests.Restore)
        self._current(body)
        prefix = prefix_within(self._store, body.uri)
        fresh = self._new_record(body.stage)

        def load() -> None:
            checkpoint = read_checkpoint(self._store, prefix, body.digest)
            load_checkpoint(self._store, checkpoint, fresh, self._clock())

        await asyncio.to_thread(load)
        old = self._current(body)
        fresh.standing, fresh.workers, fresh.stop_asked = old.standing, old.workers, old.stop_asked
        fresh.registered, fresh.last_progress = old.registered, self._clock()
        fresh.curriculum.forget_outstanding()  # a group that goes back opens fresh worlds
        self._records[body.stage] = fresh
        if body.stage not in self._order:
            self._order.append(body.stage)
        logger.info("stage %s: back to %s, %d frames", body.stage, body.uri, fresh.frames)
        return web.json_response({})

    async def _finish(self, request: web.Request) -> web.Response:
        body = await _read(request, requests.Finish)
        record = self._current(body)
        record.standing.phase, record.standing.message = body.outcome, body.message
        await self._make_durable(record)
        return web.json_response({})

    async def _evaluation(self, request: web.Request) -> web.Response:
        body = await _read(request, requests.EvaluationBody)
        record = self._record(body.stage)
        record.standing.evaluation, record.standing.best_score = tuple(body.scores), body.best_score
        await self._make_durable(record)
        return web.json_response({})

    async def _suspend(self, request: web.Request) -> web.Response:
        body = await _read(request, requests.StageBody)
        self._record(body.stage).stop_asked = True
        return web.json_response({})


def answering(handle: Callable[[bytes], bytes]) -> Callable[[bytes], tuple[int, bytes]]:
    """Return a handler of the direct line, which says by a status what HTTP says by one."""

    def answer(data: bytes) -> tuple[int, bytes]:
        try:
            return 200, handle(data)
        except RefusedError as error:
            status, message = error.status, str(error)
        except ResultRefusedError as error:
            status, message = 400, str(error)
        except Exception:
            logger.exception("a request on a direct line failed")
            status, message = 500, "the service failed; its log says why"
        return status, json.dumps({"error": message}).encode()

    return answer


async def _read(request: web.Request, model: type[B]) -> B:
    """Return the body as a model; raises RefusedError saying what is wrong with it."""
    return parse(await request.read(), model)


def parse(data: bytes, model: type[B]) -> B:
    """Return a body as a model; raises RefusedError saying what is wrong with it."""
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, one['loc'])) or 'body'}: {one['msg']}" for one in error.errors()[:5]]
        raise RefusedError(400, "; ".join(problems)) from error


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"error": message}, status=status)
