"""The few things that are asked of a Docker engine, through its command line.

Whatever the environment says decides which engine that is (`DOCKER_HOST`, the current context).

Example:
    >>> engine = Docker()
    >>> engine.build(context, dockerfile, "worldexplorer-cpu:0.1.0", {"VERSION": "0.1.0"})
    >>> engine.check("worldexplorer-cpu:0.1.0")
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from worldexplorer.errors import InfrastructureError, UsageError

UID = 10001
"""The user that the images run as."""

HARDENED = (
    "--read-only",
    *("--cap-drop", "ALL"),
    *("--security-opt", "no-new-privileges"),
    *("--user", f"{UID}:{UID}"),
    *("--tmpfs", "/tmp:rw,nosuid,nodev"),  # noqa: S108 (a folder of the container)
    *("--tmpfs", "/scratch:rw,nosuid,nodev,exec"),
)
"""How a careful cluster runs a pod: as nobody in particular, with nothing to write to but two empty folders."""


class Docker:
    """A Docker engine.

    Args:
        network: of builds and runs, where the engine's default does not reach the package index (`host`, for example).
        environment: variables to set for the command line, on top of this process's.
    """

    def __init__(self, network: str | None = None, environment: Mapping[str, str] | None = None) -> None:
        self._network = ["--network", network] if network else []
        self._environment = {**os.environ, **(environment or {})}

    def build(self, context: Path, dockerfile: Path, tag: str, arguments: Mapping[str, str]) -> None:
        """Build an image; what the build says goes to standard error.

        Raises:
            InfrastructureError: the build failed.
        """
        words = [word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")]
        command = ["build", *self._network, "--file", str(dockerfile), "--tag", tag, *words, str(context)]
        if self._call(command, show=True).returncode != 0:
            raise InfrastructureError(
                "the image could not be built",
                where=str(dockerfile),
                remedy="the build says why above; where it reached no package index, try --network host",
            )

    def check(self, image: str) -> str:
        """What an image's smoke test says, in a hardened container with no network.

        Raises:
            InfrastructureError: it failed.
        """
        done = self._call(["run", "--rm", "--network", "none", *HARDENED, image, "python", "/opt/smoke/smoke.py"])
        if done.returncode != 0:
            raise InfrastructureError(
                f"the smoke test failed with exit code {done.returncode}: {done.stderr.strip() or done.stdout.strip()}",
                where=image,
                remedy="the image is not pushed; correct its Dockerfile or its requirements",
            )
        return done.stdout

    def push(self, image: str) -> str:
        """Push an image and read back its digest, `sha256:...`.

        Raises:
            InfrastructureError: the push failed, or the engine knows no digest of it.
        """
        if self._call(["push", image], show=True).returncode != 0:
            raise InfrastructureError(
                "the image could not be pushed", where=image, remedy="docker login, and try again"
            )
        return self.digest(image)

    def pull(self, image: str) -> None:
        """Pull an image.

        Raises:
            InfrastructureError: there is none of that name, or the registry is out of reach.
        """
        if self._call(["pull", image], show=True).returncode != 0:
            raise InfrastructureError("the image could not be pulled", where=image, remedy="see what docker says above")

    def tag(self, image: str, name: str) -> None:
        """Give an image one more name."""
        self._must(["tag", image, name])

    def digest(self, image: str) -> str:
        """The digest that the registry knows an image of this name by.

        Raises:
            InfrastructureError: it was neither pushed nor pulled.
        """
        names = json.loads(self._must(["image", "inspect", "--format", "{{json .RepoDigests}}", image]))
        place = _without_tag(image)
        for name in names:
            found, _, digest = name.partition("@")
            if found == place:
                return str(digest)
        raise InfrastructureError("the engine knows no digest of this image", where=image, remedy="push it, or pull it")

    def size(self, image: str) -> int:
        """Bytes of an image, its base included."""
        return int(self._must(["image", "inspect", "--format", "{{.Size}}", image]))

    def _must(self, words: Sequence[str]) -> str:
        done = self._call(words)
        if done.returncode != 0:
            raise InfrastructureError(f"docker {words[0]} failed: {done.stderr.strip()}", where=words[-1])
        return done.stdout

    def _call(self, words: Sequence[str], *, show: bool = False) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                ["docker", *words],
                stdin=subprocess.DEVNULL,
                env=self._environment,
                stdout=2 if show else subprocess.PIPE,
                stderr=2 if show else subprocess.PIPE,
                text=True,
                check=False,
            )
        except FileNotFoundError:
            raise UsageError(
                "there is no docker program", remedy="install Docker Engine and its command line"
            ) from None


def _without_tag(image: str) -> str:
    """`HOST:PORT/NAME:TAG` -> `HOST:PORT/NAME`, as the engine spells it."""
    head, slash, last = image.partition("@")[0].rpartition("/")
    return f"{head}{slash}{last.partition(':')[0]}"
