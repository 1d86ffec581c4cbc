"""What `submit` and `schedule` share: which package, which values, which runs.

Example:
    >>> parser = Parser(prog="python -m pipelines submit")
    >>> add_sending_flags(parser)
    >>> with submission_of(parser.parse_words(argv)) as submission:
    ...     send(cluster, submission)
"""

from __future__ import annotations

import tempfile
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from pipelines.arguments import add_run_flags, check_values, given_values, run_values
from pipelines.build import STAGE_SETS
from pipelines.compile import compile_pipeline, compiled_path
from pipelines.flags import whole_number
from pipelines.package import Package, read_package
from pipelines.parameters import RUN_PARAMETERS
from pipelines.settings import BuildSettings
from pipelines.split import Part, count_jobs, plan_parts
from pipelines.submit import DEFAULT_EXPERIMENT, Submission, prepare
from worldexplorer.cli.parser import Parser
from worldexplorer.config import SCAFFOLD_GEN, help_texts
from worldexplorer.errors import UsageError
from worldexplorer.pod.plan import MOST_JOBS

DEFAULT_STAGES = (1, 2, 3)


@dataclass(frozen=True)
class Prepared:
    """A submission, and what a person should know of it.

    Attributes:
        submission: what will be sent.
        package: the file it was made from; gone afterwards where it was compiled for this command.
        warnings: what is odd about the data set, one line each.
    """

    submission: Submission
    package: Path
    warnings: tuple[str, ...]


def add_build_flags(parser: Parser) -> None:
    """Which pipeline: its stages, and what is fixed when it is compiled."""
    group = parser.add_argument_group("Pipeline")
    group.add_argument(
        "--profile", metavar="NAME", help="Settings for a kind of cluster: a name or a file (docs/submitting.md)."
    )
    for flag in ("--stages", "--only_stages"):
        group.add_argument(
            flag,
            dest="stages",
            action="extend",
            nargs="+",
            metavar="STAGE",
            help="The stages, without a gap: 1 2 3, 1 2, 2 3, 1, 2 or 3 (default: 1 2 3)."
            if flag == "--stages"
            else "Another name of --stages.",
        )
    group = parser.add_argument_group("Fixed when the pipeline is compiled")
    texts = help_texts(BuildSettings)
    for one in fields(BuildSettings):
        metavar = "N" if isinstance(one.default, int) else "SIZE"
        group.add_argument(f"--{one.name}", metavar=metavar, help=f"{texts[one.name]} (default: {one.default})")


def add_sending_flags(parser: Parser) -> None:
    """Everything that decides what is sent."""
    add_build_flags(parser)
    group = parser.add_argument_group("Runs")
    group.add_argument("--package", metavar="FILE", help="A compiled package instead of the committed one.")
    group.add_argument(
        "--experiment", metavar="NAME", default=DEFAULT_EXPERIMENT, help=f"Default: {DEFAULT_EXPERIMENT}."
    )
    group.add_argument("--pipeline_root", metavar="URI", default="", help="Where artifacts go (gs://...).")
    group.add_argument(
        "--service_account", metavar="NAME", default="", help="The Kubernetes service account of the pods."
    )
    group.add_argument(
        "--max_jobs_per_run",
        metavar="N",
        default=str(MOST_JOBS),
        help=f"Batches of more jobs become several runs (default: {MOST_JOBS}, which is the most).",
    )
    group.add_argument(
        "--no_split", action="store_true", help="One run, without reading the data set here to count its jobs."
    )
    group.add_argument("--dry_run", action="store_true", help="Print what would be sent, and send nothing.")
    add_run_flags(parser, RUN_PARAMETERS)


@contextmanager
def submission_of(words: Namespace, run_name: str = "") -> Iterator[Prepared]:
    """What the words of a command come to; nothing is sent, and everything is checked.

    Raises:
        UsageError: something is wrong with the command, the data set or the package.
    """
    limit = whole_number(words.max_jobs_per_run, "--max_jobs_per_run")
    if words.package is not None and words.stages is not None:
        raise UsageError(
            "a package's stages are fixed, and the command names stages too",
            where="--package, --stages",
            remedy="leave out --stages, or leave out --package, which sends a package of these stages",
        )
    stages = read_stages(words.stages)
    profile_values = _profile(words.profile).parameters if words.profile else {}
    given = given_values(words, RUN_PARAMETERS)
    values = run_values(RUN_PARAMETERS, profile_values, given)
    check_values(values, stages)
    settings = build_settings(words, words.profile)
    with tempfile.TemporaryDirectory(prefix="worldexplorer-") as folder:
        path = _package_path(words.package, stages, settings, Path(folder))
        package = read_package(path)
        parts, warnings = _parts(words, values, limit)
        submission = prepare(
            package,
            _for_package(package, values, {**profile_values, **given}),
            parts,
            experiment=words.experiment,
            run_name=run_name,
            pipeline_root=words.pipeline_root,
            service_account=words.service_account,
        )
        yield Prepared(submission, path, warnings)


def read_stages(words: Sequence[str] | None) -> tuple[int, ...]:
    """The stages a command names; UsageError unless a pipeline has them."""
    if words is None:
        return DEFAULT_STAGES
    texts = [text for word in words for text in word.split()]
    chosen = tuple(sorted({int(text) for text in texts if text in ("1", "2", "3")}))
    if len(set(texts)) == len(chosen) and chosen in STAGE_SETS:
        return chosen
    remedy = "give stages without a gap: 1 2 3, 1 2, 2 3, 1, 2 or 3"
    if chosen == (1, 3) and len(set(texts)) == 2:
        remedy = "send --stages 1, and when it has ended --stages 3"
    raise UsageError(f"there is no pipeline of stages {' '.join(texts)}", where="--stages", remedy=remedy)


def build_settings(words: Namespace, profile: str | None) -> BuildSettings:
    """The profile's build settings, with those of the command over them."""
    settings: BuildSettings = _profile(profile).build if profile else BuildSettings()
    changes: dict[str, Any] = {}
    for one in fields(BuildSettings):
        text = getattr(words, one.name)
        if text is not None:
            least = 0 if one.name == "retries" else 1
            changes[one.name] = whole_number(text, f"--{one.name}", least) if isinstance(one.default, int) else text
    return replace(settings, **changes)


def _profile(name: str) -> Any:
    from pipelines.profiles import load_profile

    return load_profile(name)


def _package_path(given: str | None, stages: tuple[int, ...], settings: BuildSettings, folder: Path) -> Path:
    """The named package, else the committed one, else one compiled for other settings."""
    if given is not None:
        if settings != BuildSettings():
            raise UsageError(
                "a package's settings are fixed, and the command or the profile gives others",
                where="--package",
                remedy="leave out --package, which compiles one with these settings",
            )
        return Path(given)
    if settings == BuildSettings():
        return compiled_path(stages)
    path = folder / compiled_path(stages).name
    compile_pipeline(stages, path, settings)
    return path


def _parts(words: Namespace, values: dict[str, Any], limit: int) -> tuple[list[Part], tuple[str, ...]]:
    indices = str(values.get("indices") or "")
    if words.no_split:
        return [Part(indices, None)], ()
    from_text = values.get("scaffold_method") == SCAFFOLD_GEN
    count = count_jobs(str(values["dataset_dir"]), indices, from_text=from_text)
    return plan_parts(count, indices, limit), count.warnings


def _for_package(package: Package, values: dict[str, Any], said: dict[str, Any]) -> dict[str, Any]:
    """The values without defaults that an own package does not know; what somebody has said stays, to be refused."""
    declared = package.root.parameters
    return {name: value for name, value in values.items() if name in declared or name in said}
