"""Slots in order of fitness: select by rank, insert and remove in microseconds at a million slots.

A list of sorted blocks; a Fenwick tree over the blocks' lengths finds the block of a rank.

    blocks   [-9.1 -7.0 -6.5] [-6.5 -6.5 -2.0] [-1.1 ...     negated fitness, ascending
    slots    [  17    3    4] [   8   20    1] [   5 ...     equal fitness: lower slot first

The order is a function of (fitness, slot) alone, so a ranking rebuilt from a snapshot answers the same.
"""

from array import array
from bisect import bisect_left, bisect_right

import numpy as np

BLOCK = 512  # slots of a fresh block; one that doubles is split


class PrefixSums:
    """Fenwick tree over whole numbers: add to one, and find where a running total is passed, in O(log n)."""

    def __init__(self, values: np.ndarray) -> None:
        size = len(values)
        totals = np.concatenate([[0], np.cumsum(values, dtype=np.int64)])
        index = np.arange(1, size + 1)
        self._tree = array("q", bytes(8)) + array("q", (totals[index] - totals[index - (index & -index)]).tobytes())
        self._top = 1 << max(size.bit_length() - 1, 0)

    def add(self, index: int, amount: int) -> None:
        """Add `amount` to the value at `index`."""
        tree, node, size = self._tree, index + 1, len(self._tree)
        while node < size:
            tree[node] += amount
            node += node & -node

    def find(self, total: int) -> tuple[int, int]:
        """Return the first index whose running total exceeds `total`, and `total` less what comes before it."""
        tree, size, node, step = self._tree, len(self._tree), 0, self._top
        while step:
            ahead = node + step
            if ahead < size and tree[ahead] <= total:
                node = ahead
                total -= tree[ahead]
            step >>= 1
        return node, total

    def find_ramp(self, clock: int, total: int, size: int) -> int:
        """Return the first index below `size` at which the running total of (clock - value) exceeds `total`."""
        tree, node, step = self._tree, 0, self._top
        while step:
            ahead = node + step
            if ahead <= size and (below := clock * step - tree[ahead]) <= total:
                node = ahead
                total -= below
            step >>= 1
        return node


class Ranking:
    """Slots by falling fitness."""

    def __init__(self, fitness_S: np.ndarray) -> None:
        """Rank the slots 0, 1, ... of these fitnesses (float64 [S])."""
        order = np.lexsort((np.arange(len(fitness_S)), -fitness_S)).astype(np.int64)
        keys = -fitness_S[order].astype(np.float64)
        starts = range(0, max(len(order), 1), BLOCK)
        self._keys = [array("d", keys[start : start + BLOCK].tobytes()) for start in starts]
        self._slots = [array("q", order[start : start + BLOCK].tobytes()) for start in starts]
        self._size = len(order)
        self._index_blocks()

    def __len__(self) -> int:
        """Return the number of slots."""
        return self._size

    def slot_at(self, rank: int) -> int:
        """Return the slot of a rank; 0 is the fittest."""
        block, offset = self._lengths.find(rank)
        return self._slots[block][offset]

    def insert(self, fitness: float, slot: int) -> None:
        """Add a slot that is not ranked yet."""
        key = -fitness
        block = min(bisect_left(self._lasts, (key, slot)), len(self._keys) - 1)
        keys, slots = self._keys[block], self._slots[block]
        position = _position(keys, slots, key, slot)
        keys.insert(position, key)
        slots.insert(position, slot)
        self._size += 1
        if len(keys) > 2 * BLOCK:
            self._split(block)
        else:
            self._lasts[block] = (keys[-1], slots[-1])
            self._lengths.add(block, 1)

    def remove(self, fitness: float, slot: int) -> None:
        """Take out a slot that is ranked with this fitness."""
        key = -fitness
        block = bisect_left(self._lasts, (key, slot))
        keys, slots = self._keys[block], self._slots[block]
        position = _position(keys, slots, key, slot)
        if slots[position] != slot:
            raise KeyError(f"slot {slot} is not ranked with fitness {fitness}")
        keys.pop(position)
        slots.pop(position)
        self._size -= 1
        if not keys and len(self._keys) > 1:
            del self._keys[block], self._slots[block]
            self._index_blocks()
            return
        self._lasts[block] = (keys[-1], slots[-1]) if keys else (float("inf"), 0)
        self._lengths.add(block, -1)

    def _split(self, block: int) -> None:
        keys, slots = self._keys[block], self._slots[block]
        middle = len(keys) // 2
        self._keys[block : block + 1] = [keys[:middle], keys[middle:]]
        self._slots[block : block + 1] = [slots[:middle], slots[middle:]]
        self._index_blocks()

    def _index_blocks(self) -> None:
        # Rebuilt only when the number of blocks changes: once in BLOCK insertions at most.
        pairs = zip(self._keys, self._slots, strict=True)
        self._lasts = [(keys[-1], slots[-1]) if keys else (float("inf"), 0) for keys, slots in pairs]
        self._lengths = PrefixSums(np.array([len(keys) for keys in self._keys], np.int64))


def _position(keys: "array[float]", slots: "array[int]", key: float, slot: int) -> int:
    low = bisect_left(keys, key)
    if low == len(keys) or keys[low] != key:
        return low
    return bisect_left(slots, slot, low, bisect_right(keys, key, low))
