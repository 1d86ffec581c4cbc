"""The rules of the Dockerfiles in images/, as a function from a Dockerfile's text to what breaks them.

assert broken_rules(path.read_text()) == []
"""

from __future__ import annotations

import re
from collections.abc import Iterator

LABELS = ("title", "description", "licenses", "version", "revision", "source", "base.name")
COMMIT = re.compile(r"ARG \w+_SOURCE=https://\S+/archive/[0-9a-f]{40}\.tar\.gz")


def instructions(text: str) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile, as (word, rest), each on one line."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    found = [line.strip().partition(" ") for line in joined.splitlines() if line.strip()]
    return [(word.upper(), " ".join(rest.split())) for word, _, rest in found]


def broken_rules(text: str) -> list[str]:
    """What is wrong with a Dockerfile; empty where nothing is."""
    return list(_broken_rules(text))


def _broken_rules(text: str) -> Iterator[str]:
    if re.search(r"^#\s*syntax\s*=", text, re.MULTILINE):
        yield "a syntax line fetches a builder from a registry"
    if "<<" in text:
        yield "heredocs need a newer builder"
    found = instructions(text)
    words = [word for word, _ in found]
    if found[0] != ("ARG", "BASE_IMAGE=python:3.11-slim-bookworm"):
        yield "the first instruction is ARG BASE_IMAGE with the tag that images.lock.json pins"
    if "ENTRYPOINT" in words:
        yield "ENTRYPOINT: Kubernetes replaces it, kfp.local puts it in front of the command"
    yield from _broken_stages(found)
    for word, rest in found:
        if word in ("COPY", "ADD") and "--link" in rest:
            yield "COPY --link needs a newer builder"
        if word == "ADD":
            yield "ADD fetches and unpacks unseen: COPY"
        if word == "RUN":
            yield from _broken_run(rest)
    sources = [rest for word, rest in found if word == "ARG" and "_SOURCE=" in rest]
    yield from (f"{rest} is not an archive of a full commit" for rest in sources if not COMMIT.match(f"ARG {rest}"))
    yield from _broken_end(found)


def _broken_stages(found: list[tuple[str, str]]) -> Iterator[str]:
    stages: list[str] = []
    for rest in (rest for word, rest in found if word == "FROM"):
        image, *naming = rest.split()
        if image != "${BASE_IMAGE}" and image not in stages:
            yield f"FROM {image} is neither the base image nor a stage before"
        stages += naming[1:]


def _broken_run(rest: str) -> Iterator[str]:
    if "--mount" in rest:
        yield "RUN --mount needs a newer builder"
    for command in re.split(r"&&|\|\|", rest):
        if not re.search(r"\bpip\b.* (install|wheel) ", command):
            continue
        if "--no-cache-dir" not in command:
            yield f"pip leaves its cache in the layer: {command.strip()}"
        if "--require-hashes" in command or "--no-index" in command:
            continue
        if not ("--no-deps" in command and "--no-build-isolation" in command and "_SOURCE}" in command):
            yield f"pip takes what no hash and no commit pins: {command.strip()}"


def _broken_end(found: list[tuple[str, str]]) -> Iterator[str]:
    """The last stage: the user, and the labels."""
    last = max(number for number, (word, _) in enumerate(found) if word == "FROM")
    stage = found[last:]
    users = [number for number, (word, _) in enumerate(stage) if word == "USER"]
    if not users or stage[users[-1]][1] != "10001:10001":
        yield "the image does not run as 10001:10001"
    elif any(word == "RUN" for word, _ in stage[users[-1] :]):
        yield "something runs after the user was set"
    labels = " ".join(rest for word, rest in stage if word == "LABEL")
    yield from (f"no label {name}" for name in LABELS if f"org.opencontainers.image.{name}=" not in labels)
    if "worldexplorer.engine=" not in labels:
        yield "no label worldexplorer.engine"
