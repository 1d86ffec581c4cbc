"""What a stage is given and what it gives back.

A room (scaffold, trajectory, splat) supplies one :class:`StageDefinition`; :mod:`worldexplorer.stage` runs it. The
room's `produce` writes files below `context.out`, laid out as the job's folder, and may keep what it needs to go on
after a crash below `context.work`. It never touches the storage.

Example:
    >>> def produce(context: StageContext[SplatSettings]) -> Outcome:
    ...     points = context.inputs.path("scenes/index_0000_3.0/img2trajvid/vggt_pcl.ply")
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from worldexplorer.records import InputEntry, Quality

if TYPE_CHECKING:
    from worldexplorer.config import RunConfig
    from worldexplorer.dataset import Job
    from worldexplorer.engine import Engine
    from worldexplorer.progress import Progress
    from worldexplorer.records import StageRecord

Settings = TypeVar("Settings")


def nothing_to_keep() -> None:
    """Where `out` and `work` lie in the storage already."""


class InputFiles(Protocol):
    """The files of the stage before, as its record names them."""

    record: StageRecord

    def path(self, relative: str) -> Path:
        """A local file to read, checked against the record once; `relative` to the job's folder."""

    def files(self, relatives: Sequence[str]) -> list[Path]:
        """As `path`, of many files at once: from a remote storage they are fetched together."""

    def paths(self, folder: str) -> list[Path]:
        """Every file the record names below a folder, in order of names."""

    def folder(self, relative: str) -> Path | None:
        """A local folder with every file the record names below it, None where it names none."""


@dataclass(frozen=True)
class Question:
    """What a stage asks a person before it can go on; the framework shows it and comes back with the answer.

    Attributes:
        shown: a local folder with what the person looks at.
        place: where that is shown, relative to the job's folder.
        answer: the name of the file in there that the person writes in.
        form: what that file holds at first.
        what: is waited for, one sentence without its full stop.
        remedy: what the person does.
    """

    shown: Path
    place: str
    answer: str
    form: bytes
    what: str
    remedy: str


@dataclass(frozen=True)
class Answer:
    """The file that a person was asked to write in, as it is now; `where` is for messages."""

    data: bytes
    where: str


@dataclass(frozen=True)
class StageContext(Generic[Settings]):
    """One stage of one job, ready to run.

    Attributes:
        settings: the room's own settings, with the sample's values in place.
        inputs: the files of the stage before; None for the first.
        attempt: a name no other living run uses; a resumed stage has the same one again.
        out: where the files to commit go.
        work: where what a resumed stage goes on from goes; empty at first.
        keep: to be called when something is finished that a resumed stage need not do again: where the storage is
            remote, `out` and `work` are then kept there for another machine to go on with.
        answer: to the stage's question, where it has asked one about this very result before.
    """

    job: Job
    settings: Settings
    engine: Engine
    seed: int
    inputs: InputFiles | None
    attempt: str
    out: Path
    work: Path
    progress: Progress
    keep: Callable[[], None] = nothing_to_keep
    answer: Answer | None = None


@dataclass(frozen=True)
class Outcome:
    """What a stage says of its result, besides the files."""

    metrics: Mapping[str, Any] = field(default_factory=dict)
    quality: Quality = "ok"
    notes: tuple[str, ...] = ()
    outputs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StageDefinition(Generic[Settings]):
    """A room, as the framework sees it.

    Attributes:
        settings: the room's settings for one job.
        basis: the settings as JSON values, those only that change results.
        produce: makes the result; a stage of :data:`worldexplorer.questions.ASKING_STAGES` may ask a person instead.
        source: what the first stage is made from; None for the others, which are made from the record before.
        smaller: settings that need less memory and what they change, or None where nothing can be made smaller.
        instead: what brings a result with one `basis` to another without this stage, for a person; empty where nothing
            does.
        implied: what holds of settings that a basis leaves out; older records may name them with these values.
    """

    number: int
    name: str
    settings: Callable[[Job, RunConfig, Engine], Settings]
    basis: Callable[[Settings], Mapping[str, Any]]
    produce: Callable[[StageContext[Settings]], Outcome | Question]
    source: Callable[[Job, Settings], InputEntry] | None = None
    smaller: Callable[[Settings], tuple[Settings, str] | None] = lambda _settings: None
    instead: Callable[[Mapping[str, Any], Mapping[str, Any]], str] = lambda _made, _wanted: ""
    implied: Mapping[str, Any] = field(default_factory=dict)
