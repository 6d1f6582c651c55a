"""Where a group begins: its generation, and the checkpoint it goes on from.

The leader decides, the others are told, so all of them start from the same bytes.

With `--resume-uri` the first membership goes back to that checkpoint; the following ones go on from what has been
committed since. The rendezvous store remembers from which generation on that is so.
"""

import json
import logging
from dataclasses import asdict, dataclass

from ada_curriculum.client import CurriculumClient
from ada_curriculum.manifest import CheckpointError, list_checkpoints, open_checkpoint
from ada_curriculum.store import ObjectStore
from ada_trainer import checkpoint as checkpoints
from ada_trainer.elastic.group import Group
from ada_trainer.exits import ConfigurationError
from ada_trainer.settings import Settings

ROLLED_BACK_KEY = "rolled-back"

logger = logging.getLogger("ada_trainer.resuming")


@dataclass(frozen=True)
class Start:
    """What a membership begins with."""

    generation: int
    uri: str | None  # of the checkpoint to go on from; None: from nothing
    digest: str | None


def agree_on_start(settings: Settings, group: Group, store: ObjectStore, client: CurriculumClient) -> Start:
    """Return where the group begins; the same for every worker."""
    own = b""
    if group.is_leader:
        own = json.dumps(asdict(decide_start(settings, group, store, client))).encode()
    return Start(**json.loads(group.share(own)))


def decide_start(settings: Settings, group: Group, store: ObjectStore, client: CurriculumClient) -> Start:
    """Register a new generation and choose the checkpoint; for the leader."""
    stage = settings.stage.name
    generation = 1 + max(known_generation(client, stage), stored_generation(store, stage))
    client.register(stage, generation, group.world_size)
    since = rolled_back_at(settings, group, generation)
    found = checkpoints.newest(store, stage, since or 0)
    if settings.resume is not None and (since is None or found is None):
        start = Start(generation, settings.resume.uri, settings.resume.digest)
    else:
        start = Start(generation, found.uri if found else None, found.digest if found else None)
    if start.uri is not None and start.digest is not None:
        client.restore(stage, generation, start.uri, start.digest)
    logger.info("generation %d of %d workers starts from %s", generation, group.world_size, start.uri or "nothing")
    return start


def known_generation(client: CurriculumClient, stage: str) -> int:
    """Return the newest generation that the curriculum service knows."""
    return max((one.generation for one in client.progress().stages if one.stage == stage), default=0)


def stored_generation(store: ObjectStore, stage: str) -> int:
    """Return the newest generation that committed."""
    return max((one.manifest.generation for one in list_checkpoints(store, stage)), default=0)


def rolled_back_at(settings: Settings, group: Group, generation: int) -> int | None:
    """Return the generation from which on commits follow the roll-back; None if it is still to be done.

    Without a roll-back every commit counts: 0.
    """
    if settings.resume is None:
        return 0
    if group.rendezvous is None:
        return None
    if group.rendezvous.check([ROLLED_BACK_KEY]):
        return int(group.rendezvous.get(ROLLED_BACK_KEY).decode())
    group.rendezvous.set(ROLLED_BACK_KEY, str(generation))
    return None


def read_start(settings: Settings, start: Start) -> checkpoints.Restored | None:
    """Read the checkpoint to go on from; every worker does. Raises ConfigurationError if a pinned one is not there."""
    if start.uri is None:
        return None
    try:
        store, checkpoint = open_checkpoint(start.uri, start.digest)
        return checkpoints.read(store, checkpoint)
    except CheckpointError as error:
        if settings.resume is not None and start.uri == settings.resume.uri:
            raise ConfigurationError(f"--resume-uri can't be used: {error}") from error
        raise
