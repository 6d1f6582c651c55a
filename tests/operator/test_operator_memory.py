"""How the operator's process looks after its memory."""

import subprocess
import sys

FILL = """
import gc
from ada_operator.program import spare_collections
spare_collections()
before = gc.get_stats()
kept = [[[]] for _ in range(500_000)]
print(*(after["collections"] - one["collections"] for one, after in zip(before, gc.get_stats(), strict=True)))
"""


def test_the_whole_memory_is_seldom_looked_through_for_garbage():
    """Nothing else goes on meanwhile: with a thousand experiments it took a second, every three seconds."""
    done = subprocess.run([sys.executable, "-c", FILL], capture_output=True, text=True, check=True)
    young, middle, whole = map(int, done.stdout.split())
    assert young > 1000, "garbage in cycles is still collected while it is young"
    assert middle > 100
    assert whole == 0
