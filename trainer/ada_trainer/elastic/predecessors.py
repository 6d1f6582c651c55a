"""The membership that trained last. Who has nothing of it in memory must not take over from it while it lives.

A node counts as dead in torch's rendezvous when its agent has been silent for 5 s, which an agent that gets no
processor time can be while its workers train. Whoever came then would meet alone and go on from the last commit, and
what was trained since would be lost. So it waits until their workers are silent too. The agent that was left out
notices (`agent.is_left_out`) and comes to meet, with everything in memory.
"""

import json
import time
from collections.abc import Callable

from torch._C._distributed_c10d import PrefixStore

from ada_trainer.elastic.group import Group
from ada_trainer.elastic.names import TRAINING_KEY
from ada_trainer.elastic.watchdog import BEAT_S, GONE, SILENCE_S, WATCHED, Listener, beat_of
from ada_trainer.exits import RegroupError

PATIENCE_S = 60.0  # before this group meets anew, with whoever has come meanwhile


def announce(group: Group, generation: int) -> None:
    """Tell those who come later that this membership trains; for the leader. Raises RegroupError."""
    if group.rendezvous is None:
        return
    last = {"membership": group.name, "workers": group.world_size, "generation": generation}
    try:
        group.rendezvous.set(TRAINING_KEY, json.dumps(last))
    except RuntimeError as error:
        raise RegroupError(f"the rendezvous store is lost: {str(error).splitlines()[0]}") from error


def wait_until_gone(
    group: Group,
    kept: int,
    stall_s: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Wait until the workers that trained last are silent or said that they end, unless a snapshot of theirs is here.

    Args:
        kept: the newest generation of which a worker of this group has a snapshot in memory; 0 if none has.
        stall_s: after which this group's own workers, who wait for this, would count as hanging.

    Raises:
        RegroupError: they live, or the rendezvous store is lost.
    """
    if group.rendezvous is None:
        return
    silence_s, patience_s = min(SILENCE_S, stall_s / 2), min(PATIENCE_S, 0.8 * stall_s)
    try:
        if not group.rendezvous.check([TRAINING_KEY]):
            return
        last = json.loads(group.rendezvous.get(TRAINING_KEY))
        if kept >= last["generation"]:
            return
        theirs = PrefixStore(last["membership"], group.rendezvous)
        listener, began = Listener(silence_s), clock()
        while clock() - began < patience_s:
            beats = {rank: beat_of(theirs, rank) for rank in range(min(WATCHED, last["workers"]))}
            for rank, beat in beats.items():
                listener.hear(rank, beat, clock())
            silent = listener.silent(clock())
            if all(beat == GONE or rank in silent for rank, beat in beats.items()):
                return
            sleep(BEAT_S / 2)
    except RuntimeError as error:
        raise RegroupError(f"the rendezvous store is lost: {str(error).splitlines()[0]}") from error
    raise RegroupError(
        f"generation {last['generation']} of {last['workers']} workers lives, though its nodes were taken for dead; "
        f"waited {patience_s:g} s for them to meet"
    )
