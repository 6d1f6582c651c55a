"""A tiny experiment to watch, and the run of `tests/local` that it takes."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
if str(ROOT) not in sys.path:  # tests/ is not a package: what tests share is imported from the repository's root
    sys.path.insert(0, str(ROOT))

from tests.local.conftest import make_run  # noqa: E402, F401
