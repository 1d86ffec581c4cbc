"""A folder of a Google Cloud Storage bucket as storage; the only module that knows the client library.

`create` and `replace` are conditional writes (`if_generation_match`), so of several writers exactly one wins; an
object's version is its generation. Trees of files go up and down in parallel, each checked against its CRC32C. What a
busy or broken service refuses is tried again with growing pauses; after that it is a TransientError.

Uploaded files keep their own time in the object's metadata, which moves keep: what somebody writes over one of them
is younger than it, as on a disk.

`STORAGE_EMULATOR_HOST` makes the client talk to an emulator, without credentials.

Example:
    >>> storage = GcsStorage.open("gs://worlds/batch-7")
    >>> storage.create("runs/x/plan.json", b"{}")
"""

from __future__ import annotations

import base64
import builtins
import hashlib
import io
import mimetypes
import secrets
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import google_crc32c
from google.api_core.exceptions import (
    Forbidden,
    GoogleAPICallError,
    NotFound,
    PreconditionFailed,
    RetryError,
    ServerError,
    TooManyRequests,
    Unauthorized,
)
from google.auth.exceptions import DefaultCredentialsError, RefreshError, TransportError
from google.cloud import storage as gcs
from google.cloud.storage import transfer_manager
from google.cloud.storage.exceptions import DataCorruption
from google.cloud.storage.retry import DEFAULT_RETRY
from requests import RequestException
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError

from worldexplorer.errors import DefectError, TransientError, UsageError, UserError
from worldexplorer.storage.base import (
    BUCKET_SCHEME,
    AlreadyExistsError,
    ChangedError,
    Item,
    NotFoundError,
    ObjectInfo,
    Result,
)
from worldexplorer.storage.keys import require_plain
from worldexplorer.storage.parallel import THREADS, map_in_threads

_SIGN_IN = "run `gcloud auth application-default login`"
ROLE = "Storage Object User (roles/storage.objectUser)"
_TIMEOUT_SECONDS = 60.0
_PATIENCE_SECONDS = 180.0
_OPENING_SECONDS = 30.0
_UPLOAD_PIECE = 16 * 2**20
"""Bytes of a large file that are in memory at once."""
_FEW = 5
"""Names to look at for one object: some may be of empty folders."""
_CRC32C_PIECE = 2**20
_MODIFIED = "worldexplorer-modified"
_LABEL = "worldexplorer-write"
_LISTED_FIELDS = "items(name,size,updated,crc32c,metadata),nextPageToken"


class GcsStorage:
    """Objects are blobs below a folder of a bucket.

    Args:
        client: of the bucket's project; its connections are kept for as many threads as are used here.
        bucket: its name.
        folder: without slashes at its ends; empty for the whole bucket.
        timeout_seconds: for one answer.
        patience_seconds: for trying again, all tries and pauses together.
    """

    def __init__(
        self,
        client: gcs.Client,
        bucket: str,
        folder: str = "",
        *,
        timeout_seconds: float = _TIMEOUT_SECONDS,
        patience_seconds: float = _PATIENCE_SECONDS,
    ) -> None:
        self._client = client
        self._bucket = client.bucket(bucket)
        self._prefix = f"{folder}/" if folder else ""
        self._patiently: dict[str, Any] = {
            "timeout": timeout_seconds,
            "retry": DEFAULT_RETRY.with_delay(initial=0.5, multiplier=2.0, maximum=30.0).with_timeout(patience_seconds),
        }
        # Of use to traces only; to fill it the client asks for the bucket itself, which the role does not allow.
        client._bucket_metadata_cache = None
        self.uri = f"{BUCKET_SCHEME}{bucket}/{folder}".rstrip("/")
        # Twice as many connections as threads: uploads may go on beside reads.
        for scheme in ("https://", "http://"):
            client._http.mount(scheme, HTTPAdapter(pool_connections=THREADS, pool_maxsize=2 * THREADS))

    @staticmethod
    def open(uri: str) -> GcsStorage:
        """The storage at `gs://BUCKET/FOLDER`; UsageError unless its objects can be listed."""
        bucket, folder = split_uri(uri)
        try:
            client = gcs.Client(project=None)
        except DefaultCredentialsError:
            raise UsageError(
                "there are no Google Cloud credentials",
                where=uri,
                remedy=f"{_SIGN_IN}; in a cluster, bind the pod's service account to "
                f"one with the role {ROLE} on {BUCKET_SCHEME}{bucket}",
            ) from None
        try:
            GcsStorage(client, bucket, folder, patience_seconds=_OPENING_SECONDS).exists("")
        except NotFoundError:
            raise UsageError(
                f"there is no bucket {bucket}", where=uri, remedy="correct its name, or create the bucket"
            ) from None
        except UserError as error:
            raise UsageError(error.what, where=uri, remedy=error.remedy) from None
        return GcsStorage(client, bucket, folder)

    def read(self, key: str) -> bytes:
        """See Storage."""
        return self.read_versioned(key)[0]

    def read_versioned(self, key: str) -> tuple[bytes, str]:
        """See Storage."""

        def fetch() -> tuple[bytes, str]:
            blob = self._blob(key)
            data: bytes = blob.download_as_bytes(checksum="crc32c", timeout=self._patiently["timeout"], retry=None)
            return data, str(blob.generation)

        # The client goes on where an answer broke off, with the checksum of what was there then: not with objects that
        # others replace.
        once_more = self._patiently["retry"].with_predicate(_may_pass)
        with self._translated(key):
            found: tuple[bytes, str] = once_more(fetch)()
        return found

    def create(self, key: str, data: bytes) -> None:
        """See Storage."""
        if self._refused(key, data, generation=0):
            raise AlreadyExistsError("exists already", where=self._uri(key))

    def replace(self, key: str, data: bytes, version: str) -> None:
        """See Storage."""
        # What is no generation is no object's version: the bucket would refuse it too.
        if not version.isdecimal() or self._refused(key, data, generation=int(version)):
            if self.stat(key) is None:
                raise NotFoundError("no such object", where=self._uri(key))
            raise ChangedError("was changed meanwhile", where=self._uri(key))

    def write(self, key: str, data: bytes) -> None:
        """See Storage."""
        self._put(key, self._blob(key), data)

    def delete(self, key: str) -> None:
        """See Storage."""
        with suppress(NotFoundError), self._translated(key):
            self._blob(key).delete(**self._patiently)

    def stat(self, key: str) -> ObjectInfo | None:
        """See Storage."""
        blob = self._blob(key)
        try:
            with self._translated(key):
                blob.reload(**self._patiently)
        except NotFoundError:
            return None
        return self._info(blob)

    def exists(self, prefix: str) -> bool:
        """See Storage."""
        return next(self._blobs(prefix, page=_FEW), None) is not None

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """See Storage; the service lists in order of names."""
        for blob in self._blobs(prefix):
            yield self._info(blob)

    def sha256(self, key: str) -> str:
        """See Storage."""
        sink = _Sha256Sink()
        blob = self._blob(key)
        with self._translated(key):
            blob.download_to_file(sink, checksum="crc32c", **self._patiently)
        return sink.hexdigest()

    def move(self, source: str, target: str) -> None:
        """See Storage: a copy inside the bucket, then the source goes."""
        blob, name = self._blob(source), self._name(target)
        try:
            with self._translated(source):
                self._bucket.copy_blob(blob, self._bucket, name, **self._patiently)
        except NotFoundError:
            if self.stat(target) is None:
                raise
            return
        self.delete(source)

    def delete_tree(self, prefix: str) -> None:
        """See Storage."""
        require_plain(prefix)
        self.map(self.delete, [self._key(blob) for blob in self._blobs(prefix)])

    def upload(self, folder: Path, prefix: str) -> None:
        """See Storage."""
        require_plain(prefix)
        there = {self._key(blob): blob for blob in self._blobs(prefix)}
        new = []
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            key = f"{prefix}/{path.relative_to(folder).as_posix()}"
            known = there.get(key)
            if known is None or known.size != path.stat().st_size or known.crc32c != _crc32c(path):
                blob = self._bucket.blob(self._name(key), chunk_size=_UPLOAD_PIECE)
                blob.metadata = {_MODIFIED: repr(path.stat().st_mtime)}
                new.append((str(path), blob))
        results = transfer_manager.upload_many(
            new,
            worker_type=transfer_manager.THREAD,
            max_workers=THREADS,
            upload_kwargs={"checksum": "crc32c", **self._patiently},
        )
        self._raise_first(results, [self._key(blob) for _, blob in new])

    def local_copies(self, keys: Sequence[str], scratch: Path) -> builtins.list[Path]:
        """See Storage."""
        wanted = list(dict.fromkeys(keys))
        blobs = [self._blob(key) for key in wanted]
        scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".part-", dir=scratch) as temporary:
            partial = [Path(temporary, str(number)) for number in range(len(wanted))]
            results = transfer_manager.download_many(
                list(zip(blobs, map(str, partial), strict=True)),
                worker_type=transfer_manager.THREAD,
                max_workers=THREADS,
                download_kwargs={"checksum": "crc32c", **self._patiently},
            )
            self._raise_first(results, wanted)
            for key, path in zip(wanted, partial, strict=True):
                target = scratch / key
                target.parent.mkdir(parents=True, exist_ok=True)
                path.replace(target)
        return [scratch / key for key in keys]

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> builtins.list[Result]:
        """See Storage."""
        return map_in_threads(function, items)

    def local_root(self) -> None:
        """See Storage: there is none."""

    def _refused(self, key: str, data: bytes, generation: int) -> bool:
        """Write an object if it has a generation, 0 for none; whether it has another one.

        A second try after a lost answer is refused because of the first: what was written is known by its label.
        """
        label = secrets.token_hex(8)
        blob = self._blob(key)
        blob.metadata = {_LABEL: label}
        try:
            self._put(key, blob, data, generation)
        except PreconditionFailed:
            with suppress(NotFoundError), self._translated(key):
                there = self._blob(key)
                there.reload(**self._patiently)
                return (there.metadata or {}).get(_LABEL) != label
            return True
        return False

    def _put(self, key: str, blob: gcs.Blob, data: bytes, generation: int | None = None) -> None:
        with self._translated(key):
            blob.upload_from_string(
                data,
                content_type=mimetypes.guess_type(key)[0] or "application/octet-stream",
                if_generation_match=generation,
                checksum="crc32c",
                **self._patiently,
            )

    def _name(self, key: str) -> str:
        require_plain(key)
        return f"{self._prefix}{key}"

    def _key(self, blob: gcs.Blob) -> str:
        name: str = blob.name
        return name.removeprefix(self._prefix)

    def _uri(self, key: str) -> str:
        return f"{BUCKET_SCHEME}{self._bucket.name}/{self._prefix}{key}"

    def _blob(self, key: str) -> gcs.Blob:
        return self._bucket.blob(self._name(key))

    def _blobs(self, prefix: str, page: int | None = None) -> Iterator[gcs.Blob]:
        """The blobs below a folder; what a console shows as an empty folder is none."""
        start = f"{self._name(prefix)}/" if prefix else self._prefix
        found = self._client.list_blobs(
            self._bucket, prefix=start, page_size=page, fields=_LISTED_FIELDS, **self._patiently
        )
        with self._translated(prefix):
            for blob in found:
                if not blob.name.endswith("/"):
                    yield blob

    def _info(self, blob: gcs.Blob) -> ObjectInfo:
        own_time = (blob.metadata or {}).get(_MODIFIED)
        modified = float(own_time) if own_time is not None else blob.updated.timestamp()
        return ObjectInfo(self._key(blob), blob.size, modified)

    def _raise_first(self, results: Sequence[Exception | None], keys: Sequence[str]) -> None:
        for result, key in zip(results, keys, strict=True):
            if result is not None:
                with self._translated(key):
                    raise result

    @contextmanager
    def _translated(self, key: str) -> Iterator[None]:
        """The errors of the client and of what it is built on, in this program's classes; 412 passes."""
        try:
            yield
        except NotFound:
            raise NotFoundError("no such object", where=self._uri(key)) from None
        except (Unauthorized, Forbidden, RefreshError, DefaultCredentialsError) as error:
            advice = f"give this account the role {ROLE} on {BUCKET_SCHEME}{self._bucket.name}"
            raise UserError(
                f"access to the bucket {self._bucket.name} is refused: {_brief(error)}",
                where=self._uri(key),
                remedy=advice if isinstance(error, Forbidden) else f"{_SIGN_IN} if it has expired, or {advice}",
            ) from error
        except PreconditionFailed:
            raise
        except (
            RetryError,
            TooManyRequests,
            ServerError,
            DataCorruption,
            TransportError,
            RequestException,
            HTTPError,
            ConnectionError,
        ) as error:
            raise TransientError(
                f"the bucket {self._bucket.name} does not answer as it should: {_brief(error)}",
                where=self._uri(key),
                remedy="run the same command again: it goes on where this stopped",
            ) from error
        except GoogleAPICallError as error:
            raise DefectError(f"the bucket refuses a request: {_brief(error)}", where=self._uri(key)) from error


class _Sha256Sink(io.RawIOBase):
    """Hashes what is written to it."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def write(self, data: Any) -> int:
        """Take in bytes."""
        self._hash.update(data)
        return len(data)

    def hexdigest(self) -> str:
        """The checksum so far."""
        return self._hash.hexdigest()


def split_uri(uri: str) -> tuple[str, str]:
    """Bucket and folder of `gs://BUCKET/FOLDER`; UsageError for anything else."""
    bucket, _, folder = uri.removeprefix(BUCKET_SCHEME).partition("/")
    folder = folder.rstrip("/")
    try:
        for part in (bucket, folder) if folder else (bucket,):
            require_plain(part)
    except DefectError:
        raise UsageError(
            f"{uri} names no folder of a bucket", where=uri, remedy=f"write it as {BUCKET_SCHEME}BUCKET/FOLDER"
        ) from None
    return bucket, folder


def _may_pass(error: Exception) -> bool:
    """Whether a request makes sense again, from its beginning."""
    return isinstance(error, DataCorruption) or bool(DEFAULT_RETRY._predicate(error))


def _brief(error: BaseException) -> str:
    """The last words of an error that wraps others."""
    cause = error.cause if isinstance(error, RetryError) else None
    return str(cause or error).splitlines()[0] if str(cause or error) else type(error).__name__


def _crc32c(path: Path) -> str:
    """The CRC32C of a file as the service writes it."""
    value = 0
    with path.open("rb") as file:
        while piece := file.read(_CRC32C_PIECE):
            value = google_crc32c.extend(value, piece)
    return base64.b64encode(value.to_bytes(4, "big")).decode()
