"""Looking for secrets: in every form in which they may have been written down."""

import base64
import gzip
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import quote


def forms(secret: str) -> set[bytes]:
    """Return the bytes to look for; base64 at each of the three places where a text can stand in a longer one."""
    raw = secret.encode()
    found = {raw, quote(secret, safe="").encode(), raw.hex().encode(), raw[::-1]}
    for shift in range(3):
        code = base64.b64encode(b"\0" * shift + raw)
        found.add(code[-(-8 * shift // 6) + (shift > 0) : len(code) // 4 * 4 - 4])
    return found


def finds(data: bytes, secrets: Iterable[str]) -> bool:
    """Return whether any of the secrets stands in the data, also if that is compressed as a whole."""
    wanted = [form for secret in secrets for form in forms(secret)]
    return any(form in text for text in (data, *_unpacked(data)) for form in wanted)


def _unpacked(data: bytes) -> Iterator[bytes]:
    try:
        yield gzip.decompress(data)
    except (OSError, EOFError, zlib.error):
        return


def files_with(folder: Path, secrets: Iterable[str]) -> list[str]:
    """Return the files below a folder in which one of the secrets stands, in content or in name."""
    wanted = list(secrets)
    return [
        str(path.relative_to(folder))
        for path in sorted(folder.rglob("*"))
        if finds(str(path.relative_to(folder)).encode(), wanted)
        or (path.is_file() and finds(path.read_bytes(), wanted))
    ]
