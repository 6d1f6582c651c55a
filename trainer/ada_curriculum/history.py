"""A stage's learning curve: at most MAX_POINTS points, evenly spread over its frames."""

import json
from collections.abc import Mapping

MAX_POINTS = 2000

Point = dict[str, object]


class History:
    """Points in order of frames. When there are too many, every other one goes and the spacing doubles."""

    def __init__(self) -> None:
        self.points: list[Point] = []
        self._spacing = 0  # frames

    def is_due(self, frames: int) -> bool:
        """Return whether a point at `frames` would be kept."""
        return not self.points or frames >= self._last_frames() + max(self._spacing, 1) or frames < self._last_frames()

    def add(self, point: Mapping[str, object], frames: int) -> None:
        """Add a point if it is due; points of frames that were rolled back are dropped."""
        if not self.is_due(frames):
            return
        while self.points and self._last_frames() >= frames:
            self.points.pop()
        self.points.append({**point, "frames": frames})
        if len(self.points) > MAX_POINTS:
            self._spacing = max(2 * self._spacing, 2 * frames // MAX_POINTS)
            self.points = self.points[::2]

    def to_bytes(self) -> bytes:
        """Return everything as JSON."""
        return json.dumps({"spacing": self._spacing, "points": self.points}).encode()

    def load(self, data: bytes) -> None:
        """Replace everything by `to_bytes`'s. Raises ValueError if it makes no sense."""
        document = json.loads(data)
        points = document["points"] if isinstance(document, dict) else None
        if not isinstance(points, list) or len(points) > MAX_POINTS:
            raise ValueError(f"a history is a list of at most {MAX_POINTS} points")
        if not all(isinstance(point, dict) and isinstance(point.get("frames"), int) for point in points):
            raise ValueError("every point of a history has a whole number of frames")
        self.points, self._spacing = points, int(document["spacing"])

    def _last_frames(self) -> int:
        frames = self.points[-1]["frames"]
        assert isinstance(frames, int)
        return frames
