"""Times as the Kubernetes API writes them, and as seconds since 1970."""

from datetime import UTC, datetime


def timestamp(time_s: float) -> str:
    """Return seconds since 1970 as RFC 3339 with whole seconds."""
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds(text: str | None, default: float) -> float:
    """Return RFC 3339 as seconds since 1970; `default` for None."""
    return default if text is None else datetime.fromisoformat(text).timestamp()
