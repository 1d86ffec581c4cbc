"""Run pipelines of container components here, with kfp.local: as processes, or as containers.

kfp.local 2.17.0 needs help in three places, all replaced here and nowhere else, and only for that version:

* `SubprocessRunner` refuses container components. It runs them when its validator lets them pass: the command is
  executed as it is, on this machine.
* `DockerRunner` starts containers that remove themselves, and takes one that has gone before it could be asked for
  success. Here a container is created, started, read, waited for and removed.

Example:
    with process_session(tmp_path / "pipeline_root") as session:
        outcome = session.run(ROOT / "pipelines/compiled/worldexplorer_123.yaml", dataset_dir=..., output_base=...)
    assert outcome.succeeded
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import kfp.local
from kfp import components
from kfp.local import docker_task_handler, subprocess_task_handler

KFP_VERSION = "2.17.0"
"""The version whose inside the replacements fit."""
HARDENED: Mapping[str, Any] = {
    "read_only": True,
    "user": "10001:10001",
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
    "tmpfs": {"/tmp": "rw,mode=1777", "/scratch": "rw,mode=1777"},
    "network_mode": "host",
}
"""How a cluster with the restricted Pod Security Standard runs a stage, and the engine's one network here."""

_FAILED = "finished with status"
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Outcome:
    """How a run ended, as kfp.local sees it: it can skip tasks without a word, so look at what the tasks wrote."""

    succeeded: bool
    outputs: Mapping[str, Any] = field(default_factory=dict)
    message: str = ""


@dataclass(frozen=True)
class Session:
    """kfp.local with one runner and one pipeline root.

    Attributes:
        runner: the runner.
        pipeline_root: where artifacts lie; every user may write there.
    """

    runner: kfp.local.SubprocessRunner | kfp.local.DockerRunner
    pipeline_root: Path

    def run(self, pipeline: Path | Callable[..., Any], **arguments: Any) -> Outcome:
        """Run a compiled package or a decorated pipeline to its end.

        A task that fails gives an outcome that has not succeeded; what kfp.local itself cannot do is raised.
        """
        runnable = components.load_component_from_file(str(pipeline)) if isinstance(pipeline, Path) else pipeline
        kfp.local.init(runner=self.runner, pipeline_root=str(self.pipeline_root), raise_on_error=True)
        try:
            task = runnable(**arguments)
        except RuntimeError as error:
            if _FAILED not in str(error):
                raise
            return Outcome(succeeded=False, message=_COLOUR.sub("", str(error)))
        return Outcome(succeeded=True, outputs=task.outputs)


@contextmanager
def process_session(pipeline_root: Path, environment: Mapping[str, str] | None = None) -> Iterator[Session]:
    """Tasks are processes of this machine; `python` in their commands is this interpreter.

    Args:
        pipeline_root: where artifacts go; made here.
        environment: variables that every task gets.
    """
    require_known_version()
    search = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    handler = subprocess_task_handler.SubprocessTaskHandler
    with (
        mock.patch.object(handler, "validate_not_container_component", lambda self, full_command: None),
        mock.patch.object(handler, "validate_image", lambda self, image: None),
        mock.patch.dict(os.environ, {**(environment or {}), "PATH": search}),
        _own_configuration(),
    ):
        yield Session(kfp.local.SubprocessRunner(use_venv=False), _writable(pipeline_root))


@contextmanager
def docker_session(
    pipeline_root: Path, docker_host: str, environment: Mapping[str, str] | None = None, **options: Any
) -> Iterator[Session]:
    """Tasks are containers; their images must be there.

    Args:
        pipeline_root: where artifacts go, on both sides of the mount; made here, writable for every user.
        docker_host: the engine, such as "unix:///.../docker.sock".
        environment: variables that every task gets besides its own.
        options: more of docker-py's `containers.create`, such as :data:`HARDENED`, `mem_limit`, `mounts`.
    """
    require_known_version()
    run_container = _container_runner(environment or {})
    with (
        mock.patch.object(docker_task_handler, "run_docker_container", run_container),
        mock.patch.dict(os.environ, {"DOCKER_HOST": docker_host}),
        _own_configuration(),
    ):
        yield Session(kfp.local.DockerRunner(**options), _writable(pipeline_root))


def require_known_version() -> None:
    """Fail for a kfp whose inside nobody has looked at.

    Raises:
        RuntimeError: the installed kfp is another than :data:`KFP_VERSION`.
    """
    installed = importlib.metadata.version("kfp")
    if installed != KFP_VERSION:
        raise RuntimeError(
            f"kfp {installed} is installed, and tests/kfp_local.py replaces parts of kfp {KFP_VERSION}: read "
            "kfp/local/subprocess_task_handler.py and docker_task_handler.py of the new version, fit the replacements, "
            "and change KFP_VERSION"
        )


def _writable(folder: Path) -> Path:
    """A folder that containers of any user can write to, whatever the umask."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o777)
    return folder


@contextmanager
def _own_configuration() -> Iterator[None]:
    """Leave this process as it was found: `init` sets a global, and a task's log replaces `print` while it runs.

    Tasks of a loop run in threads, and the one that ends last puts back what it found: another one's `print`.
    """
    with (
        mock.patch.object(kfp.local.config.LocalExecutionConfig, "instance", None),
        mock.patch.object(kfp.local.logging_utils, "indented_print", nullcontext),
    ):
        yield


def _container_runner(environment: Mapping[str, str]) -> Callable[..., int]:
    def run_container(client: Any, image: str, command: list[str], volumes: Any, **options: Any) -> int:
        import docker.errors

        image = docker_task_handler.add_latest_tag_if_not_present(image)
        try:
            client.images.get(image)
        except docker.errors.ImageNotFound as error:
            known = sorted(tag for known in client.images.list() for tag in known.tags)
            raise LookupError(f"the engine has no image {image}; it has {', '.join(known) or 'none'}") from error
        options["environment"] = {**environment, **options.get("environment", {})}
        container = client.containers.create(image, command, volumes=volumes, **options)
        try:
            container.start()
            for line in container.logs(stream=True, follow=True):
                sys.stdout.write(line.decode(errors="replace"))
            return int(container.wait()["StatusCode"])
        finally:
            container.remove(force=True)

    return run_container
