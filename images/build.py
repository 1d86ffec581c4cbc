"""`python -m images.build`: build the images, try each in a hardened container, push them and pin them by digest.

Example:
    $ python -m images.build cpu                                  # build and try one
    $ python -m images.build --registry REGISTRY                  # build, try and push all; pin them
    $ python -m images.build --registry REGISTRY --source URL --release

A pushed image's digest is written to images/images.lock.json and into the compiled pipelines, which then name the image
by it: commit both.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from images.catalog import IMAGES, LOCK, NAMES, ROOT, ImageLock, open_pins, project_version, repository
from images.docker import Docker
from worldexplorer.cli.border import guarded
from worldexplorer.cli.parser import Parser
from worldexplorer.errors import UsageError


@dataclass(frozen=True)
class Origin:
    """Where the sources of an image are from; its labels say so."""

    version: str
    revision: str
    source: str


def main(argv: Sequence[str]) -> int:
    """Run the command; the exit code."""
    return guarded(lambda: _run(argv))


def _run(argv: Sequence[str]) -> int:
    parser = Parser(prog="python -m images.build", description="Build, try, push and pin the container images.")
    parser.add_argument("names", nargs="*", metavar="IMAGE", help=f"which images: {', '.join(NAMES)}; all by default")
    parser.add_argument("--base_image", metavar="REFERENCE", help="another base image than images.lock.json names")
    parser.add_argument("--network", metavar="NAME", help="the builds' network, such as host")
    parser.add_argument("--build_arg", action="append", default=[], metavar="NAME=VALUE", help="for every Dockerfile")
    parser.add_argument("--registry", metavar="HOST/PATH", help="push there, and pin what was pushed")
    parser.add_argument("--source", metavar="URL", default="unknown", help="where the sources are published; a label")
    parser.add_argument("--pin_base", action="store_true", help="look up the base image's digest and pin it first")
    parser.add_argument("--release", action="store_true", help="refuse to build while anything is not pinned")
    parser.add_argument("--lock", type=Path, default=LOCK, metavar="FILE", help="another file than images.lock.json")
    words = parser.parse_words(argv)
    names = _chosen(words.names)
    engine = Docker(words.network)
    registry = words.registry.rstrip("/") if words.registry else None
    lock = ImageLock.read(words.lock)
    lock = lock.for_version(project_version(), registry or lock.registry)
    if words.pin_base:
        engine.pull(lock.base)
        lock = replace(lock, base_digest=engine.digest(lock.base))
        lock.write(words.lock)
    origin = Origin(project_version(), _revision(), words.source)
    if words.release:
        _refuse_unpinned(lock, registry, words.base_image, names, origin)
    arguments = dict(_pair(word) for word in words.build_arg)
    arguments["BASE_IMAGE"] = words.base_image or lock.base_reference()
    for name in names:
        image = build(engine, name, origin, arguments)
        if registry:
            lock = lock.with_digest(repository(name), push(engine, image, registry))
            lock.write(words.lock)  # after each, since a later one may fail
    if registry and words.lock == LOCK:
        subprocess.run([sys.executable, "-m", "pipelines", "compile"], cwd=ROOT, check=True)
    return 0


def build(engine: Docker, name: str, origin: Origin, arguments: dict[str, str]) -> str:
    """Build one image and try it; its name with its tag.

    Raises:
        InfrastructureError: it cannot be built, or fails its smoke test.
    """
    image = f"{repository(name)}:{origin.version}"
    started = time.monotonic()
    labels = {"VERSION": origin.version, "REVISION": origin.revision, "SOURCE": origin.source}
    engine.build(ROOT, IMAGES / name / "Dockerfile", image, {**arguments, **labels})
    built = time.monotonic()
    said = engine.check(image)
    sys.stdout.write(
        f"{image}: {engine.size(image) / 1e9:.2f} GB, built in {built - started:.0f} s, "
        f"smoke test {time.monotonic() - built:.1f} s: {said.strip()}\n"
    )
    return image


def push(engine: Docker, image: str, registry: str) -> str:
    """Push an image to a registry; the digest it got there."""
    place = f"{registry}/{image}"
    engine.tag(image, place)
    digest = engine.push(place)
    sys.stdout.write(f"{place}: {digest}\n")
    return digest


def _chosen(names: Sequence[str]) -> Sequence[str]:
    for name in names:
        if name not in NAMES:
            raise UsageError(f"there is no image {name!r}", remedy=f"choose from: {', '.join(NAMES)}")
    return names or NAMES


def _pair(word: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if not name or not equals:
        raise UsageError(f"{word!r} is not NAME=VALUE", where="--build_arg", remedy="write NAME=VALUE")
    return name, value


def _revision() -> str:
    """The commit that is built, with `-modified` where the checkout differs from it."""

    def git(*words: str) -> str | None:
        done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else None

    try:
        commit, changes = git("rev-parse", "HEAD"), git("status", "--porcelain")
    except FileNotFoundError:
        return "unknown"
    if not commit:
        return "unknown"
    return f"{commit}-modified" if changes else commit


def _refuse_unpinned(
    lock: ImageLock, registry: str | None, base_image: str | None, names: Sequence[str], origin: Origin
) -> None:
    """A release is made of pinned parts, from a commit, and all of it is pushed.

    Raises:
        UsageError: something is missing; all of it is listed.
    """
    missing = open_pins(lock)
    if registry is None:
        missing.append("--registry: where to push to")
    if origin.source == "unknown":
        missing.append("--source: where the sources are published")
    if base_image is not None:
        missing.append("--base_image: a release takes the base image of images.lock.json")
    if set(names) != set(NAMES):
        missing.append(f"IMAGE: a release is made of all images, and these are {', '.join(names)}")
    if origin.revision == "unknown" or origin.revision.endswith("-modified"):
        missing.append("the checkout: commit its changes first")
    if missing:
        listed = "".join(f"\n  {place}" for place in missing)
        raise UsageError(
            f"this is no release yet; {len(missing)} things are not pinned:{listed}\n",
            remedy="`worldexplorer weights lock` and then `python -m images.models` fill models.lock, "
            "`--pin_base` the base image's digest",
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
