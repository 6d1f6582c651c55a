"""An object store on MinIO or any S3-compatible service, through the `minio` SDK."""

import io
import logging
import os
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlencode, urlsplit

import certifi
import urllib3
from minio import Minio
from minio.error import MinioException, S3Error

from ada_curriculum.store import (
    CHUNK_BYTES,
    PAGE_OBJECTS,
    ObjectExistsError,
    ObjectInfo,
    ObjectMissingError,
    StoreError,
    check_key,
    get,
)

CONNECT_TIMEOUT_S = 10
READ_TIMEOUT_S = 120
RETRIES = 5
PART_BYTES = 16 << 20
CONDITIONAL_PUT_EXPIRES = timedelta(hours=1)
PRECONDITION_FAILED = 412

logger = logging.getLogger("ada_curriculum.s3")

T = TypeVar("T")


@dataclass(frozen=True)
class S3Address:
    """Where a store is; the part of an s3:// URI."""

    bucket: str
    prefix: str  # without slashes at its ends; may be empty
    endpoint: str  # http(s)://host[:port]
    region: str
    path_style: bool

    @property
    def uri(self) -> str:
        """Return the URI that `parse_address` reads."""
        query = {"endpoint": self.endpoint, "region": self.region, "path_style": str(self.path_style).lower()}
        path = f"/{self.prefix}" if self.prefix else ""
        return f"s3://{self.bucket}{path}?{urlencode(query, safe=':/')}"


def parse_address(uri: str) -> S3Address:
    """Read an s3:// URI; raises StoreError naming what is wrong."""
    parts = urlsplit(uri)
    query = parse_qs(parts.query, keep_blank_values=True)
    unknown = set(query) - {"endpoint", "region", "path_style"}
    if unknown or any(len(values) > 1 for values in query.values()):
        raise StoreError(f"store URI {uri[:200]!r} has unknown or repeated parameters {sorted(unknown)}")
    endpoint = query.get("endpoint", ["https://s3.amazonaws.com"])[0]
    target = urlsplit(endpoint)
    if target.scheme not in ("http", "https") or not target.netloc or target.path.strip("/") or target.username:
        raise StoreError(f"endpoint {endpoint[:200]!r} of a store must be http(s)://host[:port]")
    style = query.get("path_style", ["true"])[0]
    if style not in ("true", "false"):
        raise StoreError(f"path_style={style!r} of a store must be true or false")
    if not parts.netloc or "@" in parts.netloc:
        raise StoreError(f"store URI {uri[:200]!r} names no bucket")
    prefix = parts.path.strip("/")
    if prefix:
        check_key(prefix)
    region = query.get("region", ["us-east-1"])[0]
    return S3Address(parts.netloc, prefix, endpoint.rstrip("/"), region, style == "true")


def open_s3_store(uri: str) -> "S3Store":
    """Open a store with the credentials and CA bundle of the environment; nothing is asked of the service yet."""
    address = parse_address(uri)
    access_key, secret_key = os.environ.get("ADA_STORE_ACCESS_KEY"), os.environ.get("ADA_STORE_SECRET_KEY")
    if not access_key or not secret_key:
        raise StoreError(f"store {address.uri} needs credentials: set ADA_STORE_ACCESS_KEY and ADA_STORE_SECRET_KEY")
    bundle = os.environ.get("ADA_STORE_CA") or os.environ.get("SSL_CERT_FILE") or certifi.where()
    if not Path(bundle).is_file():
        raise StoreError(f"CA bundle {bundle} of store {address.uri} is not a file (ADA_STORE_CA)")
    http = urllib3.PoolManager(
        timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=READ_TIMEOUT_S),
        maxsize=16,
        cert_reqs="CERT_REQUIRED",
        ca_certs=bundle,
        retries=urllib3.Retry(total=RETRIES, backoff_factor=0.2, status_forcelist=[500, 502, 503, 504]),
    )
    target = urlsplit(address.endpoint)
    client = Minio(
        endpoint=target.netloc,
        access_key=access_key,
        secret_key=secret_key,
        secure=target.scheme == "https",
        region=address.region,
        http_client=http,
    )
    untyped: Any = client
    if address.path_style:
        untyped.disable_virtual_style_endpoint()
    else:
        untyped.enable_virtual_style_endpoint()
    return S3Store(client, address)


@dataclass
class Conditions:
    """What was found out about conditional puts of one service; shared by all stores on one client."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    supported: bool | None = None  # None: not tried yet


class S3Store:
    """Objects under a prefix of a bucket, which must exist."""

    def __init__(self, client: Minio, address: S3Address, conditions: "Conditions | None" = None) -> None:
        self._client = client
        self._address = address
        self._conditions = conditions or Conditions()

    @property
    def uri(self) -> str:
        """Return the s3:// URI, without credentials."""
        return self._address.uri

    def put(self, key: str, data: bytes | Path) -> None:
        """Upload an object, in parts if it is large; S3 shows it when it is complete."""
        name = self._name(key)
        if isinstance(data, bytes):
            stream = io.BytesIO(data)
            self._ask(key, lambda: self._client.put_object(self._address.bucket, name, stream, len(data)))
        else:
            path = str(data)
            self._ask(key, lambda: self._client.fput_object(self._address.bucket, name, path, part_size=PART_BYTES))

    def put_new(self, key: str, data: bytes) -> None:
        """Upload an object that must not be there yet: on condition if the service takes one, else after a look."""
        if not self._has_conditional_puts():
            if self.head(key) is not None:
                raise ObjectExistsError(f"object {key} in {self.uri} is there already")
            self.put(key, data)
            return
        if not self._put_on_condition(key, data) and get(self, key) != data:
            # Equal bytes are ours: the answer to an earlier attempt was lost.
            raise ObjectExistsError(f"object {key} in {self.uri} is there already")

    def _put_on_condition(self, key: str, data: bytes) -> bool:
        """Upload an object unless there is one; return whether. Raises StoreError."""
        # The SDK has no conditional put (7.2), so its signed URL carries the request.
        url = self._client.presigned_put_object(self._address.bucket, self._name(key), CONDITIONAL_PUT_EXPIRES)
        http: Any = self._client._http
        answer: Any = self._ask(key, lambda: http.urlopen("PUT", url, body=data, headers={"If-None-Match": "*"}))
        if answer.status == 200:
            return True
        if answer.status == PRECONDITION_FAILED:
            return False
        raise StoreError(f"store {self.uri} refused {key!r}: {answer.status}: {answer.data[:300]!r}")

    def _has_conditional_puts(self) -> bool:
        """Return whether the service refuses to replace an object when asked not to; tried once."""
        with self._conditions.lock:
            if self._conditions.supported is None:
                self._conditions.supported = self._probe()
                logger.info(
                    "store %s: conditional puts %s", self.uri, "work" if self._conditions.supported else "don't"
                )
            return self._conditions.supported

    def _probe(self) -> bool:
        key = f"probes/conditional-put-{secrets.token_hex(8)}"
        self.put(key, b"first")
        try:
            self._put_on_condition(key, b"second")
            return get(self, key) == b"first"
        except StoreError as error:
            if isinstance(error.__cause__, Exception):
                raise  # the service did not answer; that says nothing about what it can do
            return False
        finally:
            self.delete([key])

    def chunks(self, key: str) -> Iterator[bytes]:
        """Download an object piece by piece."""
        name = self._name(key)
        response: Any = self._ask(key, lambda: self._client.get_object(self._address.bucket, name))
        try:
            while piece := self._ask(key, lambda: response.read(CHUNK_BYTES)):
                yield piece
        finally:
            response.close()
            response.release_conn()

    def head(self, key: str) -> ObjectInfo | None:
        """Return size and time of an object."""
        name = self._name(key)
        try:
            status: Any = self._ask(key, lambda: self._client.stat_object(self._address.bucket, name))
        except ObjectMissingError:
            return None
        return ObjectInfo(key, int(status.size), status.last_modified.timestamp())

    def list(self, prefix: str, after: str = "", limit: int = PAGE_OBJECTS) -> list[ObjectInfo]:
        """List a page of objects."""
        if prefix:
            check_key(prefix.rstrip("/"))
        bucket, start = self._address.bucket, self._full(after) if after else None
        found: list[Any] = self._ask(
            prefix,
            lambda: list(
                islice(
                    self._client.list_objects(bucket, prefix=self._full(prefix), recursive=True, start_after=start),
                    limit,
                )
            ),
        )
        cut = len(self._full(""))
        return [ObjectInfo(item.object_name[cut:], int(item.size), item.last_modified.timestamp()) for item in found]

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects one by one, so that their order holds."""
        for key in keys:
            self._ask(key, partial(self._client.remove_object, self._address.bucket, self._name(key)))

    def child(self, prefix: str) -> "S3Store":
        """Return the store under a prefix, over the same connections."""
        address = self._address
        full = self._name(prefix)
        return S3Store(
            self._client,
            S3Address(address.bucket, full, address.endpoint, address.region, address.path_style),
            self._conditions,
        )

    def _full(self, key: str) -> str:
        return f"{self._address.prefix}/{key}" if self._address.prefix else key

    def _name(self, key: str) -> str:
        return self._full(check_key(key))

    def _ask(self, key: str, request: Callable[[], T]) -> T:
        # The SDK's errors carry the request's headers in no message, so they may be repeated here.
        try:
            return request()
        except S3Error as error:
            if error.code in ("NoSuchKey", "NoSuchObject"):
                raise ObjectMissingError(f"no object {key} in {self.uri}") from error
            raise StoreError(f"store {self.uri} refused {key!r}: {error.code}: {error.message}") from error
        except (MinioException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise StoreError(f"store {self.uri} failed at {key!r}: {type(error).__name__}: {error}") from error
