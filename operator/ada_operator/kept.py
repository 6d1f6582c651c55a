"""What the API server last said about each experiment, so that a look at one asks it nothing that was heard already.

It is a hint and no state. It comes from the answers to our reads and writes, from watch events, and from whole lists of
each kind (`inventory`), which put right what the watches left out, repeated or mixed up. Of two versions of an object
the newer one counts, whichever is heard of first. What a request found to be otherwise is doubted, and read anew.

Objects are kept packed, without what nobody reads: thousands of experiments have tens of thousands of them.
"""

import time
import zlib
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field

from pydantic_core import from_json, to_json

from ada_operator.cluster import DISRUPTION_BUDGETS, JOBS, STATEFUL_SETS, slim
from ada_operator.observed import Manifest

LONGEST_KEPT_S = 60.0  # what is read one by one; longer with many experiments, of which REREAD_A_SECOND are read anew
REREAD_A_SECOND = 10.0
NEVER = float("-inf")
READ_OF_STATUS = {JOBS.kind: ("conditions",), STATEFUL_SETS.kind: ("readyReplicas",), DISRUPTION_BUDGETS.kind: ()}

Place = tuple[str, str]  # namespace, and the label of an experiment's children
Read = Callable[[], Awaitable[list[Manifest]]]


@dataclass(frozen=True, slots=True)
class Packed:
    """One version of an object; versions grow, and are those of the API server."""

    uid: str
    version: int
    data: bytes  # of all that is read but the version


def pack(item: Manifest) -> Packed:
    """Return an object as it is kept.

    Of a status that changes with every pod only what is read is kept: another change is no reason to look.
    """
    slender = slim(item)
    status, read = item.get("status"), READ_OF_STATUS.get(item["kind"])
    if status and read is not None:
        slender["status"] = {key: status[key] for key in read if key in status}
    version = slender["metadata"].pop("resourceVersion")
    return Packed(slender["metadata"]["uid"], int(version), zlib.compress(to_json(slender), 1))


def unpack(packed: Packed) -> Manifest:
    """Return the object."""
    found: Manifest = from_json(zlib.decompress(packed.data))
    found["metadata"]["resourceVersion"] = str(packed.version)
    return found


@dataclass(slots=True)
class _Kept:
    """What is known of one experiment; times by the clock of `KeptLooks`."""

    items: dict[str, dict[str, Packed]] = field(default_factory=dict)  # by kind and uid
    gone: dict[str, int] = field(default_factory=dict)  # by uid: the version with which it went
    changes: dict[str, int] = field(default_factory=dict)  # by kind: how often it was heard to have changed
    read_at: dict[str, float] = field(default_factory=dict)  # by kind: when the newest read of all of it began
    doubted_at: dict[str, float] = field(default_factory=dict)  # by kind
    all_doubted_at: float = NEVER


class KeptLooks:
    """What is known, by place and kind."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: dict[Place, _Kept] = {}
        self._listed_at: dict[str, float] = {}  # by kind: when the newest list of all of its objects began
        self.lists_hold_s = 0.0  # how long the objects of a whole list, and what was heard since, are believed

    def __len__(self) -> int:
        return len(self._kept)

    async def items(self, place: Place, kind: str, read: Read) -> list[Manifest]:
        """Return the objects of a kind: those known, or what `read` returns, which is then known."""
        known = self.known(place, kind)
        if known is not None:
            return known
        kept = self._kept.setdefault(place, _Kept())
        changes, began_at = kept.changes.get(kind, 0), self._clock()
        found = await read()
        kept = self._kept.setdefault(place, _Kept())
        if kept.changes.get(kind, 0) == changes:  # else it may be older than the change that was heard of meanwhile
            kept.items[kind] = {one.uid: one for one in map(pack, found)}
            kept.read_at[kind] = began_at
        return found

    def known(self, place: Place, kind: str) -> list[Manifest] | None:
        """Return the objects of a kind, or None if they are not known well enough."""
        kept = self._kept.setdefault(place, _Kept())
        if not self._is_believed(kept, kind):
            return None
        return [unpack(one) for one in kept.items.get(kind, {}).values()]

    def _is_believed(self, kept: _Kept, kind: str) -> bool:
        read_at, listed_at = kept.read_at.get(kind, NEVER), self._listed_at.get(kind, NEVER)
        if max(read_at, listed_at) < max(kept.doubted_at.get(kind, NEVER), kept.all_doubted_at):
            return False
        read_holds_s = max(LONGEST_KEPT_S, len(self._kept) / REREAD_A_SECOND)
        now = self._clock()
        return now - read_at < read_holds_s or now - listed_at < self.lists_hold_s

    def knows(self, place: Place, kind: str, item: Manifest) -> bool:
        """Return whether this version of an object, or a newer one, was heard of."""
        kept, metadata = self._kept.get(place), item["metadata"]
        return kept is not None and _is_known(kept, kind, metadata["uid"], int(metadata["resourceVersion"]))

    def heard(self, place: Place, kind: str, item: Packed, *, gone: bool = False) -> bool:
        """Note what was said about one object; return whether that is news: it changed in something that is read."""
        kept = self._kept.setdefault(place, _Kept())
        if _is_known(kept, kind, item.uid, item.version):
            return False
        kept.changes[kind] = kept.changes.get(kind, 0) + 1
        before = kept.items.get(kind, {}).get(item.uid)
        if gone:
            kept.items.get(kind, {}).pop(item.uid, None)
            kept.gone[item.uid] = item.version
            self._drop_if_empty(place)
        else:
            kept.items.setdefault(kind, {})[item.uid] = item
        return gone or before is None or before.data != item.data

    def wrote(self, place: Place, kind: str, item: Manifest) -> None:
        """Note what the API server answered to a write of ours."""
        self.heard(place, kind, pack(item))

    def listed(self, kind: str, began_at: float, version: int, there: Mapping[Place, Collection[str]]) -> list[Place]:
        """Note that a list of all objects of a kind, each of which was heard, is complete.

        Args:
            began_at: when the list was asked for, by the clock.
            version: that of the list.
            there: uids of the listed objects by place.

        Returns:
            Places of objects that are no longer there.
        """
        self._listed_at[kind] = began_at
        lost = []
        for place, kept in list(self._kept.items()):
            known, listed = kept.items.get(kind, {}), there.get(place, ())
            missing = [one.uid for one in known.values() if one.uid not in listed and one.version <= version]
            for uid in missing:
                del known[uid]
            kept.gone = {uid: went for uid, went in kept.gone.items() if went > version}
            if missing:
                kept.changes[kind] = kept.changes.get(kind, 0) + 1
                lost.append(place)
                self._drop_if_empty(place)
        return lost

    def doubt(self, place: Place, *kinds: str) -> None:
        """Have these kinds of an experiment read anew; all of them if none is named."""
        kept = self._kept.setdefault(place, _Kept())
        if not kinds:
            kept.all_doubted_at = self._clock()
        kept.doubted_at |= dict.fromkeys(kinds, self._clock())

    def leave(self, place: Place, *kinds: str) -> None:
        """Forget kinds of an experiment that is gone; the others are heard to go."""
        kept = self._kept.get(place)
        if kept is not None:
            for kind in kinds:
                kept.items.pop(kind, None)
                kept.read_at.pop(kind, None)
            self._drop_if_empty(place)

    def _drop_if_empty(self, place: Place) -> None:
        if not any(self._kept[place].items.values()):
            del self._kept[place]


def _is_known(kept: _Kept, kind: str, uid: str, version: int) -> bool:
    known = kept.items.get(kind, {}).get(uid)
    return (known is not None and known.version >= version) or kept.gone.get(uid, -1) >= version
