"""`worldexplorer doctor`: what this machine has, and which engine can run on it.

Example:
    >>> run(["--engine", "preview"])
    0
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from importlib import metadata
from pathlib import Path

import worldexplorer
from worldexplorer.cli.checks import weights_line
from worldexplorer.cli.output import PlainConsole, plain
from worldexplorer.cli.parser import Parser, choice
from worldexplorer.config import BatchConfig, RunConfig
from worldexplorer.engines import load_engine
from worldexplorer.errors import UsageError
from worldexplorer.models.weight_status import download_folder, size_text, weight_status
from worldexplorer.models.weights import SOURCE_VARIABLE, is_offline, weight_sets
from worldexplorer.processors import usable_processors
from worldexplorer.units import GIB

EXIT_CANNOT_RUN = 1
_PROBE_SECONDS = 10
_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9._-]+)[^;]*(?:;.*extra\s*==\s*['\"](?P<extra>[^'\"]+)['\"])?")
_EXTRAS = ("preview",)
_ENGINE_WITH_WEIGHTS = "full"


@dataclass(frozen=True)
class Fact:
    """A line of the report; `good` is None for what is merely stated."""

    name: str
    text: str
    good: bool | None = None


_NAME_WIDTH = 30


def run(argv: Sequence[str], program: str = "worldexplorer doctor") -> int:
    """Print the report; 1 where the engine asked for, or else every engine, cannot run here."""
    engines = _engine_names()
    parser = Parser(prog=program, description="Say what this machine can run, and what is missing.")
    parser.add_argument("--engine", metavar="{" + ",".join(engines) + "}", help="look at one engine only")
    chosen = parser.parse_words(argv).engine
    looked_at = engines if chosen is None else (choice(chosen, "engine", engines),)
    console = PlainConsole()
    for fact in (*machine_facts(), *package_facts()):
        _print(console, fact)
    able = []
    for name in looked_at:
        for fact in weight_facts() if name == _ENGINE_WITH_WEIGHTS else ():
            _print(console, fact)
        facts = engine_facts(name)
        for fact in facts:
            _print(console, fact)
        able.append(all(fact.good is not False for fact in facts))
    return 0 if any(able) else EXIT_CANNOT_RUN


def machine_facts() -> Iterator[Fact]:
    """Python, cores, memory, disk and GPUs."""
    supported = (3, 11) <= sys.version_info[:2] < (3, 13)
    yield Fact("python", f"{platform.python_version()} ({sys.executable})", supported)
    yield Fact("system", f"{platform.system()} {platform.machine()}")
    yield Fact("cores", str(usable_processors()))
    yield Fact("memory", f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / GIB:.1f} GiB")
    yield Fact("free disk", f"{shutil.disk_usage(Path.cwd()).free / GIB:.1f} GiB in {Path.cwd()}")
    yield Fact("gpu", "; ".join(_gpus()) or "none found (nvidia-smi names none)")


def package_facts() -> Iterator[Fact]:
    """The packages this program asks for, with the versions that are installed."""
    for name, extra in _requirements():
        note = f" (for --engine {extra})" if extra else ""
        try:
            yield Fact(name, f"{metadata.version(name)}{note}", True)
        except metadata.PackageNotFoundError:
            yield Fact(name, f"not installed{note}: python -m pip install '{name}'", False)


def engine_facts(name: str) -> list[Fact]:
    """Whether an engine can run every stage here, what is missing and how to get it, and its licence."""
    run_config = RunConfig(BatchConfig(engine=name))
    title = f"engine {name}"
    try:
        engine = load_engine(run_config)
    except UsageError as error:
        return [Fact(title, f"cannot run here: {error.what}. What to do: {error.remedy}", False)]
    scaffold = run_config.scaffold
    missing = engine.check(run_config.batch.only_stages, scaffold.scaffold_method, scaffold.traj_prior)
    facts = [Fact(title, f"cannot run here: {text}", False) for text in missing]
    if missing:
        facts.append(Fact(title, f"what to do: {engine.remedy}"))
    else:
        can = weights_line(engine)
        facts.append(Fact(title, f"can run here ({engine.label})" + (f"; {can}" if can else ""), True))
    return [*facts, Fact(title, f"licence: {engine.licence}")]


def weight_facts() -> Iterator[Fact]:
    """Every model's repository, revision, size, licence and gate, whether it is here, and where weights come from."""
    for one in weight_sets().values():
        status = weight_status(one)
        yield Fact(f"weights {one.name}", status.text, True if status.here else None)
    source = os.environ.get(SOURCE_VARIABLE)
    if source is not None:
        yield Fact("weights from", f"{source} ({SOURCE_VARIABLE})")
        return
    folder = download_folder()
    place = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    note = "; HF_HUB_OFFLINE is set, nothing is downloaded" if is_offline() else ""
    yield Fact("weights from", f"the hub, into {folder} ({size_text(shutil.disk_usage(place).free)} free){note}")


def _print(console: PlainConsole, fact: Fact) -> None:
    mark, style = {True: ("ok", "green"), False: ("missing", "red"), None: ("", "")}[fact.good]
    console.show([plain(f"{mark:8}{fact.name:{_NAME_WIDTH}}{fact.text}", style)])


def _engine_names() -> tuple[str, ...]:
    field = next(one for one in fields(BatchConfig) if one.name == "engine")
    names: tuple[str, ...] = field.metadata["choices"]
    return names


def _requirements() -> Iterator[tuple[str, str]]:
    """The names of the packages that are needed, and the extra each belongs to, empty for those always needed."""
    try:
        lines = metadata.requires("worldexplorer") or []
    except metadata.PackageNotFoundError:  # used from a checkout that is not installed
        project = tomllib.loads((Path(worldexplorer.__file__).parents[1] / "pyproject.toml").read_text())["project"]
        lines = list(project["dependencies"])
        lines += [
            f"{line}; extra == '{extra}'" for extra, some in project["optional-dependencies"].items() for line in some
        ]
    for line in lines:
        match = _REQUIREMENT.match(line)
        if match is not None and (match["extra"] or "") in ("", *_EXTRAS):
            yield match["name"], match["extra"] or ""


def _gpus() -> list[str]:
    """Name, memory in all, free memory and driver of each NVIDIA GPU."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    query = [program, "--query-gpu=name,memory.total,memory.free,driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=_PROBE_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return [f"nvidia-smi does not answer ({type(error).__name__})"]
    return answer.stdout.strip().splitlines()
