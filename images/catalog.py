"""The images there are, and the file that pins them, `images.lock.json`.

Digests, revisions and checksums that nobody has looked up yet are null: an image can be built and tried without them,
but not released (:func:`open_pins`).

Example:
    >>> lock = ImageLock.read(LOCK)
    >>> lock.base_reference()
    'python:3.11-slim-bookworm'
    >>> lock.with_digest("worldexplorer-cpu", "sha256:...").write(LOCK)
"""

from __future__ import annotations

import ast
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from worldexplorer.errors import UsageError

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "images"
LOCK = IMAGES / "images.lock.json"
NAMES = ("cpu", "scaffold", "trajectory", "splat", "splat-nerfstudio")
"""The folders in images/ that hold a Dockerfile, in the order they are built."""

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def repository(name: str) -> str:
    """The repository of an image: `worldexplorer-cpu` for `cpu`."""
    return f"worldexplorer-{name}"


def project_version() -> str:
    """The version in worldexplorer/__init__.py, read without importing it."""
    tree = ast.parse((ROOT / "worldexplorer" / "__init__.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(getattr(target, "id", "") == "__version__" for target in node.targets):
            return str(ast.literal_eval(node.value))
    raise UsageError("worldexplorer/__init__.py states no __version__")


@dataclass(frozen=True)
class ImageLock:
    """What `images.lock.json` says."""

    registry: str | None
    """Where the images were pushed, such as `europe-docker.pkg.dev/PROJECT/REPOSITORY`; null before."""
    base: str
    """The base image, with its tag."""
    base_digest: str | None
    tags: dict[str, str]
    """The tag of each repository."""
    digests: dict[str, str | None]
    """What the registry answered to a push of that tag; null before."""

    @classmethod
    def read(cls, path: Path) -> ImageLock:
        """The lock in a file.

        Raises:
            UsageError: it is not there, or does not hold what belongs there.
        """
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            entries = {repository(name): found[repository(name)] for name in NAMES}
            lock = cls(
                registry=found["registry"],
                base=found["base"]["image"],
                base_digest=found["base"]["digest"],
                tags={name: entry["tag"] for name, entry in entries.items()},
                digests={name: entry["digest"] for name, entry in entries.items()},
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f"the lock of the images cannot be read: {error!r}",
                where=str(path),
                remedy="take it from version control again",
            ) from error
        for name, digest in {"base": lock.base_digest, **lock.digests}.items():
            if digest is not None and not _DIGEST.fullmatch(digest):
                raise UsageError(f"{digest!r} is no digest", where=f"{path}: {name}", remedy="set it to null")
        return lock

    def write(self, path: Path) -> None:
        """One entry a line, so that a change is one line of a diff."""
        lines = [
            f'"registry": {json.dumps(self.registry)}',
            f'"base": {json.dumps({"image": self.base, "digest": self.base_digest})}',
        ]
        lines += [
            f'"{name}": {json.dumps({"tag": self.tags[name], "digest": self.digests[name]})}' for name in self.tags
        ]
        path.write_text("{\n" + ",\n".join(f"  {line}" for line in lines) + "\n}\n", encoding="utf-8")

    def base_reference(self) -> str:
        """What a Dockerfile's BASE_IMAGE is set to: by digest where one is known."""
        return f"{self.base}@{self.base_digest}" if self.base_digest else self.base

    def with_digest(self, name: str, digest: str) -> ImageLock:
        """The same lock with one image pinned."""
        return replace(self, digests={**self.digests, name: digest})

    def for_version(self, version: str, registry: str | None) -> ImageLock:
        """The same base, nothing pushed yet: digests of another version or another registry are no digests of this."""
        tags = dict.fromkeys(self.tags, version)
        if tags == self.tags and registry == self.registry:
            return self
        return replace(self, registry=registry, tags=tags, digests=dict.fromkeys(self.digests))


def open_pins(lock: ImageLock, images: Path = IMAGES) -> list[str]:
    """The places in files that are still null and keep the images from being released.

    The images' own digests are not among them: a release makes them.

    Args:
        lock: the images' lock.
        images: the folder whose `NAME/models.lock` are looked at.
    """
    places = [] if lock.base_digest else ["images.lock.json: base.digest"]
    for name in NAMES:
        path = images / name / "models.lock"
        places += [f"{name}/models.lock: {place}" for place in _nulls(json.loads(path.read_text(encoding="utf-8")))]
    return places


def _nulls(value: Any, place: str = "") -> list[str]:
    """The places of nulls in a JSON value: `models[0].revision`."""
    if value is None:
        return [place]
    if isinstance(value, dict):
        return [found for key, item in value.items() for found in _nulls(item, f"{place}.{key}" if place else key)]
    if isinstance(value, list):
        return [found for number, item in enumerate(value) for found in _nulls(item, f"{place}[{number}]")]
    return []
