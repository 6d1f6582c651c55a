"""What a worker leaves behind for its agent: why it ended, in the file whose name torch gives it."""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path

from ada_trainer.exits import EXIT_CONFIGURATION, EXIT_STOPPED, EXIT_TROUBLE

ERROR_FILE_VARIABLE = "TORCHELASTIC_ERROR_FILE"
MAX_LETTERS = 4000


def leave_verdict(message: str, environment: Mapping[str, str] = os.environ) -> None:
    """Write why this worker ends, in the form that torch's agent reads; nothing if there is no agent."""
    if (name := environment.get(ERROR_FILE_VARIABLE)) is None:
        return
    path = Path(name)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps({"message": message[:MAX_LETTERS], "timestamp": int(time.time())}))
    partial.replace(path)


def agent_exit_code(codes: list[int]) -> int:
    """Return how the agent ends when its workers ended with these codes, none of them all zero."""
    for code in (EXIT_CONFIGURATION, EXIT_STOPPED):
        if code in codes:
            return code
    return EXIT_TROUBLE
