"""The group of workers as one worker sees it: who it is, and what all of them can agree on or add up.

Any failure of a collective means that a peer is gone: it becomes a RegroupError.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import PrefixStore, Store, TCPStore

from ada_trainer.elastic.names import MEMBERSHIP_VARIABLE
from ada_trainer.elastic.processes import split_address
from ada_trainer.exits import RegroupError
from ada_trainer.snapshot import Data, memory_of

STORE_TIMEOUT_S = 60.0
BROADCAST_BYTES = 64 << 20  # at once
JOIN_S = 60.0  # between the first and the last worker of a membership, all of which are copies of what is loaded


@dataclass(frozen=True)
class Group:
    """W workers, of which this one has rank r; alone it needs no communication."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    rendezvous: Store | None = None  # keys of this rendezvous id, kept over memberships
    membership: Store | None = None  # keys of this membership alone
    name: str = ""  # of this membership

    @property
    def is_leader(self) -> bool:
        """Return whether this worker speaks for the group."""
        return self.rank == 0

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """Add up a tensor over the group, in place; returns it."""
        if self.world_size > 1:
            _collective(lambda: dist.all_reduce(tensor, op=dist.ReduceOp.SUM))
        return tensor

    def greatest(self, number: int) -> int:
        """Return the greatest of all workers' numbers."""
        if self.world_size == 1:
            return number
        tensor = torch.tensor([number], dtype=torch.int64)
        _collective(lambda: dist.all_reduce(tensor, op=dist.ReduceOp.MAX))
        return int(tensor.item())

    def total(self, *values: int) -> tuple[int, ...]:
        """Return each number's sum over the group."""
        tensor = torch.tensor(values, dtype=torch.int64)
        return tuple(int(value) for value in self.sum(tensor))

    def gather(self, data: bytes) -> list[bytes]:
        """Return every worker's bytes, by rank, to all of them."""
        if self.world_size == 1:
            return [data]
        own = torch.tensor([len(data)], dtype=torch.int64)
        sizes = [torch.zeros_like(own) for _ in range(self.world_size)]
        _collective(lambda: dist.all_gather(sizes, own))
        longest = max(int(size) for size in sizes)
        padded = torch.frombuffer(bytearray(data.ljust(longest, b"\0") or b"\0"), dtype=torch.uint8)
        parts = [torch.zeros_like(padded) for _ in range(self.world_size)]
        _collective(lambda: dist.all_gather(parts, padded))
        return [part.numpy().tobytes()[: int(size)] for part, size in zip(parts, sizes, strict=True)]

    def broadcast(self, data: Data, source: int) -> Data:
        """Return the bytes of the worker of rank `source` to all workers; what the others give is not looked at."""
        if self.world_size == 1:
            return data
        size = torch.tensor([len(data)], dtype=torch.int64)
        _collective(lambda: dist.broadcast(size, source))
        whole = torch.empty(int(size), dtype=torch.uint8)
        if self.rank == source and data:
            whole = torch.frombuffer(bytearray(data) if isinstance(data, bytes) else data, dtype=torch.uint8)
        for begin in range(0, len(whole), BROADCAST_BYTES):
            part = whole[begin : begin + BROADCAST_BYTES]
            _collective(partial(dist.broadcast, part, source))
        return memory_of(whole)

    def share(self, data: bytes) -> bytes:
        """Return the leader's bytes to all workers."""
        return self.gather(data if self.is_leader else b"")[0]

    def barrier(self) -> None:
        """Wait until all workers are here."""
        self.greatest(0)

    def leave(self) -> None:
        """Let go of the group's connections."""
        if dist.is_initialized():
            dist.destroy_process_group()


def _collective(run: Callable[[], object]) -> None:
    try:
        run()
    except RuntimeError as error:  # DistBackendError and gloo's connection errors are RuntimeErrors
        raise RegroupError(f"a peer left the group: {str(error).splitlines()[0]}") from error


def join(rendezvous_address: str, rendezvous_id: str, environment: Mapping[str, str]) -> Group:
    """Become a member of the group that the agent put into the environment, once all are here.

    Nothing can be agreed on before `connect`. Raises RegroupError.
    """
    rank, world_size = int(environment["RANK"]), int(environment["WORLD_SIZE"])
    local_rank = int(environment["LOCAL_RANK"])
    host, port = split_address(rendezvous_address)
    try:
        store = TCPStore(host, port, is_master=False, timeout=timedelta(seconds=STORE_TIMEOUT_S))
        rendezvous = PrefixStore(f"ada/{rendezvous_id}", store)
        name = environment[MEMBERSHIP_VARIABLE]
        membership = PrefixStore(name, rendezvous)
        device = torch.device("cpu")
        if torch.cuda.is_available():
            device = torch.device("cuda", local_rank)
            torch.cuda.set_device(device)
        membership.set(f"here/{rank}", "1")
        membership.wait([f"here/{peer}" for peer in range(world_size)], timedelta(seconds=JOIN_S))
    except (RuntimeError, ValueError) as error:
        raise RegroupError(f"could not join the group of {world_size}: {str(error).splitlines()[0]}") from error
    return Group(rank, world_size, local_rank, device, rendezvous, membership, name)


def connect(group: Group, timeout_s: float) -> None:
    """Connect the members to each other. Raises RegroupError.

    A peer that dies meanwhile is not noticed here for `timeout_s`: watch them (watchdog.py) from before this on.

    Args:
        timeout_s: for this, and for every collective after it.
    """
    assert group.membership is not None, "who has no store is alone"
    try:
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if group.device.type == "cuda" else "gloo",
            store=PrefixStore("collectives", group.membership),
            rank=group.rank,
            world_size=group.world_size,
            timeout=timedelta(seconds=timeout_s),
        )
    except (RuntimeError, ValueError) as error:
        raise RegroupError(f"the {group.world_size} workers did not connect: {str(error).splitlines()[0]}") from error
