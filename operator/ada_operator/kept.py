"""What the API server last said about each experiment, so that a look at one where nothing happened asks it nothing.

It is a hint and no state. An event about a child has its kind listed anew, an event about the experiment has it read
anew, and all of it is read anew after a minute and at every resync, whatever the watches said or did not say.
"""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from ada_operator.observed import Manifest
from ada_operator.work_queue import Key

LONGEST_KEPT_S = 60.0

Read = Callable[[], Awaitable[list[Manifest]]]


@dataclass
class _Kept:
    """What is known about one experiment; kinds that are missing have to be read."""

    began_at: float
    items: dict[str, list[Manifest]] = field(default_factory=dict)
    changes: dict[str, int] = field(default_factory=dict)  # by kind: how often it was heard to have changed


class KeptLooks:
    """What is known, by experiment and kind."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: dict[Key, _Kept] = {}

    async def items(self, key: Key, kind: str, read: Read) -> list[Manifest]:
        """Return the objects of a kind: those known, or what `read` returns, which is then known."""
        kept = self._kept.get(key)
        if kept is None or self._clock() - kept.began_at >= LONGEST_KEPT_S:
            kept = self._kept[key] = _Kept(self._clock())
        known = kept.items.get(kind)
        if known is not None:
            return known
        changes = kept.changes.get(kind, 0)
        found = await read()
        if kept.changes.get(kind, 0) == changes:  # else it may be older than the change that was heard of meanwhile
            kept.items[kind] = found
        return found

    def wrote(self, key: Key, kind: str, item: Manifest) -> None:
        """Note what the API server answered to a write of ours."""
        kept = self._kept.get(key)
        if kept is None or kind not in kept.items:
            return
        uid = item["metadata"]["uid"]
        others = [one for one in kept.items[kind] if one["metadata"]["uid"] != uid]
        kept.items[kind] = [*others, item]

    def knows(self, key: Key, kind: str, uid: str, version: str) -> bool:
        """Return whether an object is known in just this version: then hearing of it is no news."""
        kept = self._kept.get(key)
        return kept is not None and any(
            (one["metadata"]["uid"], one["metadata"]["resourceVersion"]) == (uid, version)
            for one in kept.items.get(kind, ())
        )

    def changed(self, key: Key, kind: str) -> None:
        """Note that objects of a kind are no longer as they were read, or are being read now."""
        kept = self._kept.get(key)
        if kept is not None:
            kept.changes[kind] = kept.changes.get(kind, 0) + 1
            kept.items.pop(kind, None)

    def forget(self, key: Key) -> None:
        """Know nothing about an experiment."""
        self._kept.pop(key, None)
