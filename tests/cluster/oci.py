"""OCI image archives from a tar and loose files, without a daemon or a registry (OCI image specification 1.1)."""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"


def write_image(
    archive: Path,
    name: str,
    layers: Sequence[Path],
    *,
    entrypoint: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> None:
    """Write an image called `name` whose file system is `layers`, uncompressed tars, lowest first."""
    digests = [_digest(layer) for layer in layers]
    variables = {"PATH": "/usr/local/bin:/usr/bin:/bin", **(environment or {})}
    config = {
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": digests},
        "config": {
            "Env": [f"{key}={value}" for key, value in variables.items()],
            "Entrypoint": list(entrypoint) or None,
        },
    }
    with tarfile.open(archive, "w") as tar:
        described = []
        for layer, digest in zip(layers, digests, strict=True):
            tar.add(layer, _blob(digest))
            described.append({"mediaType": LAYER, "digest": digest, "size": layer.stat().st_size})
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": _add_json(tar, config, CONFIG),
            "layers": described,
        }
        names = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name}
        index = {"schemaVersion": 2, "manifests": [{**_add_json(tar, manifest, MANIFEST), "annotations": names}]}
        _add(tar, "index.json", json.dumps(index).encode())
        _add(tar, "oci-layout", json.dumps({"imageLayoutVersion": "1.0.0"}).encode())


def write_layer(layer: Path, files: Mapping[str, Path], links: Mapping[str, str] | None = None) -> None:
    """Write a tar with executables at absolute paths, and symbolic links."""
    with tarfile.open(layer, "w") as tar:
        for target, source in files.items():
            member = tar.gettarinfo(str(source), target.lstrip("/"))
            member.mtime, member.uid, member.gid, member.uname, member.gname, member.mode = 0, 0, 0, "", "", 0o755
            with source.open("rb") as content:
                tar.addfile(member, content)
        for target, points_to in (links or {}).items():
            member = tarfile.TarInfo(target.lstrip("/"))
            member.type, member.linkname = tarfile.SYMTYPE, points_to
            tar.addfile(member)


def _digest(path: Path) -> str:
    with path.open("rb") as content:
        return "sha256:" + hashlib.file_digest(content, "sha256").hexdigest()


def _blob(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def _add_json(tar: tarfile.TarFile, document: Mapping[str, Any], media_type: str) -> dict[str, Any]:
    data = json.dumps(document).encode()
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    _add(tar, _blob(digest), data)
    return {"mediaType": media_type, "digest": digest, "size": len(data)}
