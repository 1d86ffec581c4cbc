"""The one shape of every container here, and where its image comes from."""

import json
from pathlib import Path

from kfp import dsl

LOCK = Path(__file__).resolve().parent.parent / "images" / "images.lock.json"


def image_reference(name: str) -> str:
    """The pinned reference of one of the project's images.

    Args:
        name: a folder below `images/`, such as `cpu`.

    Returns:
        `REGISTRY/worldexplorer-NAME@sha256:...` for an image that was released, else its tag.
    """
    lock = json.loads(LOCK.read_text(encoding="utf-8"))
    repository = f"worldexplorer-{name}"
    entry = lock[repository]
    place = f"{lock['registry']}/{repository}" if lock["registry"] else repository
    return f"{place}@{entry['digest']}" if entry["digest"] else f"{place}:{entry['tag']}"


def pod(task: str, image: str) -> dsl.ContainerSpec:
    """A container that runs one task of :mod:`worldexplorer.pod`."""
    return dsl.ContainerSpec(
        image=image_reference(image),
        command=["python", "-m", "worldexplorer.pod", task],
        args=["--executor_input", "{{$}}"],
    )
