"""Where the time of an iteration goes."""

import time


class Stopwatch:
    """Time of the parts of an iteration."""

    def __init__(self) -> None:
        """Start."""
        self.parts: dict[str, float] = {}  # seconds
        self._mark = time.monotonic()

    def lap(self, part: str) -> None:
        """Book the time since the last lap on a part."""
        now = time.monotonic()
        self.parts[part] = self.parts.get(part, 0.0) + now - self._mark
        self._mark = now
