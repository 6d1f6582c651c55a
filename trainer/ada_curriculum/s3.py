"""An object store on MinIO or any S3-compatible service, through the `minio` SDK.

Puts are single requests, signed here: the SDK has none that takes a digest which is known already, a condition, or
memory that is not to be copied. So no upload of several parts is ever left unfinished.
"""

import hashlib
import logging
import os
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import certifi
import urllib3
from minio import Minio
from minio import time as sdk_time
from minio.credentials.credentials import Credentials
from minio.error import InvalidResponseError, MinioException, S3Error
from minio.signer import sign_v4_s3

from ada_curriculum.store import (
    CHUNK_BYTES,
    PAGE_OBJECTS,
    Data,
    ObjectExistsError,
    ObjectInfo,
    ObjectMissingError,
    ObjectTooLargeError,
    StoreError,
    check_key,
    file_chunks,
    get,
)

CONNECT_TIMEOUT_S = 10
READ_TIMEOUT_S = 120
RETRIES = 5
MAX_PUT_BYTES = 5 << 30  # S3's own bound of one request
WRITTEN, PRECONDITION_FAILED = 200, 412

NOT_IMPLEMENTED = ("NotImplemented", "InvalidArgument", "InvalidRequest")  # what services say to a condition

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
    def bucket_url(self) -> str:
        """Return the address of the bucket."""
        if self.path_style:
            return f"{self.endpoint}/{self.bucket}"
        scheme, _, host = self.endpoint.partition("://")
        return f"{scheme}://{self.bucket}.{host}"

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
        retries=urllib3.Retry(
            total=RETRIES, backoff_factor=0.2, status_forcelist=[500, 502, 503, 504], raise_on_status=False
        ),
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
    return S3Store(Service(client, http, Credentials(access_key, secret_key)), address)


@dataclass(frozen=True)
class Service:
    """The way to one service, and what was found out about it; shared by all stores on it."""

    client: Minio
    http: urllib3.PoolManager
    credentials: Credentials
    conditions: "Conditions" = field(default_factory=lambda: Conditions())


@dataclass
class Conditions:
    """Whether a service has conditional puts."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    supported: bool | None = None  # None: not tried yet


class S3Store:
    """Objects under a prefix of a bucket, which must exist."""

    def __init__(self, service: Service, address: S3Address) -> None:
        self._service = service
        self._client = service.client
        self._address = address

    @property
    def uri(self) -> str:
        """Return the s3:// URI, without credentials."""
        return self._address.uri

    def put(self, key: str, data: Data | Path, sha256: str | None = None) -> None:
        """Upload an object in one request; the service refuses it if other bytes arrive than were digested."""
        self._put(key, data, sha256)

    def put_new(self, key: str, data: bytes) -> None:
        """Upload an object that must not be there yet: on condition if the service takes one, else after a look."""
        if not self._has_conditional_puts():
            if self.head(key) is not None:
                raise ObjectExistsError(f"object {key} in {self.uri} is there already")
            self.put(key, data)
            return
        if not self._put(key, data, None, {"If-None-Match": "*"}) and get(self, key) != data:
            # Equal bytes are ours: the answer to an earlier attempt was lost.
            raise ObjectExistsError(f"object {key} in {self.uri} is there already")

    def _put(self, key: str, data: Data | Path, sha256: str | None, conditions: Mapping[str, str] = {}) -> bool:
        """Upload an object; return False if a condition forbade it. Raises StoreError."""
        url = f"{self._address.bucket_url}/{quote(self._name(key), safe='/-_.~')}"

        def request() -> bool:
            size = data.stat().st_size if isinstance(data, Path) else len(data)
            if size > MAX_PUT_BYTES:
                raise ValueError(f"{size} bytes are more than the {MAX_PUT_BYTES} of one S3 request")
            headers = {**self._signed("PUT", url, sha256 or _digest(data)), **conditions, "Content-Length": str(size)}
            answer = self._service.http.urlopen("PUT", url, body=_Body(data), headers=headers)
            if answer.status not in (WRITTEN, PRECONDITION_FAILED):
                raise _refusal(answer)
            return answer.status == WRITTEN

        return self._ask(key, request)

    def _signed(self, method: str, url: str, sha256: str) -> dict[str, str]:
        """Return the headers that sign a request whose body has this digest."""
        parts, date = urlsplit(url), sdk_time.utcnow()
        headers: dict[str, Any] = {
            "Host": parts.netloc,
            "x-amz-content-sha256": sha256,
            "x-amz-date": sdk_time.to_amz_date(date),
        }
        signed: dict[str, Any] = sign_v4_s3(
            method=method,
            url=parts,
            region=self._address.region,
            headers=headers,
            credentials=self._service.credentials,
            content_sha256=sha256,
            date=date,
        )
        return signed

    def _has_conditional_puts(self) -> bool:
        """Return whether the service refuses to replace an object when asked not to; tried once."""
        with self._service.conditions.lock:
            if self._service.conditions.supported is None:
                self._service.conditions.supported = self._probe()
                logger.info(
                    "store %s: conditional puts %s", self.uri, "work" if self._service.conditions.supported else "don't"
                )
            return self._service.conditions.supported

    def _probe(self) -> bool:
        key = f"probes/conditional-put-{secrets.token_hex(8)}"
        self.put(key, b"first")
        try:
            self._put(key, b"second", None, {"If-None-Match": "*"})
            return get(self, key) == b"first"
        except StoreError as error:
            if isinstance(error.__cause__, S3Error) and error.__cause__.code in NOT_IMPLEMENTED:
                return False
            raise  # the service did not answer; that says nothing about what it can do
        finally:
            self.delete([key])

    def chunks(self, key: str, into: memoryview | None = None) -> Iterator[Data]:
        """Download an object piece by piece; where a connection is lost meanwhile, the rest is asked for."""
        name, begin = self._name(key), 0
        for tries_left in reversed(range(RETRIES + 1)):
            response: Any = self._ask(key, partial(self._client.get_object, self._address.bucket, name, offset=begin))
            try:
                if (length := response.headers.get("Content-Length")) is None:
                    raise StoreError(f"store {self.uri} sends {key!r} without its length")
                end = begin + int(length)
                if into is not None and end > len(into):
                    raise ObjectTooLargeError(f"object {key} in {self.uri} has {end} bytes, room is for {len(into)}")
                while begin < end:
                    size = min(CHUNK_BYTES, end - begin)
                    piece = memoryview(bytearray(size)) if into is None else into[begin : begin + size]
                    received = response._fp.readinto(piece)  # urllib3's own `readinto` copies twice
                    if not received:
                        raise urllib3.exceptions.IncompleteRead(begin, end - begin)
                    yield piece[:received]
                    begin += received
                response.release_conn()
                return
            except (urllib3.exceptions.HTTPError, OSError) as error:
                if not tries_left:
                    raise StoreError(f"store {self.uri} failed at {key!r}: {type(error).__name__}: {error}") from error
                logger.info("the store broke off at byte %d of %s: %s", begin, key, error)
            finally:
                response.close()  # unless it was released

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
            self._service, S3Address(address.bucket, full, address.endpoint, address.region, address.path_style)
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
            message = f"{error.code}: {error.message}{_remedy(error)}"
            raise StoreError(f"store {self.uri} refused {key!r}: {message}") from error
        except (MinioException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise StoreError(f"store {self.uri} failed at {key!r}: {type(error).__name__}: {error}") from error


@dataclass(frozen=True)
class _Body:
    """What a request carries, piece by piece, so that a time-out is one piece's; read anew when it is sent anew."""

    data: Data | Path

    def __iter__(self) -> Iterator[Data]:
        if isinstance(self.data, Path):
            return file_chunks(self.data)
        view = memoryview(self.data)
        return (view[begin : begin + CHUNK_BYTES] for begin in range(0, len(view), CHUNK_BYTES))


def _digest(data: Data | Path) -> str:
    digest = hashlib.sha256()
    for piece in _Body(data):
        digest.update(piece)
    return digest.hexdigest()


def _refusal(answer: Any) -> MinioException:
    """Return the error that a service answered with."""
    try:
        return S3Error.fromxml(answer)
    except (SyntaxError, ValueError):  # no XML
        return InvalidResponseError(
            answer.status, answer.headers.get("content-type"), answer.data[:300].decode(errors="replace")
        )


def _remedy(error: S3Error) -> str:
    """Return what people can do about a refusal, where we know it."""
    match error.code:
        case "RequestTimeTooSkewed":
            said = error.response.headers.get("Date")
            ahead_s = (sdk_time.utcnow() - parsedate_to_datetime(said)).total_seconds() if said else 0.0
            return f" This machine's clock is {ahead_s:+.0f} s off the store's: set one of them right"
        case "SignatureDoesNotMatch" | "InvalidAccessKeyId" | "AccessDenied":
            return " (these credentials, of ADA_STORE_ACCESS_KEY and ADA_STORE_SECRET_KEY, are not or no longer good)"
    return ""
