"""What `metadata.json` may hold: pydantic models of its objects, and what disagrees with them in a person's words.

Types are strict: `true` or `"3"` is not a number. `null` stands for a key that is not there. A field's description
says what is expected and becomes the error message. Keys that no model knows are reported, never an error.

Example:
    >>> document = {"samples": [{"index": True, "theme": "castle", "author": "me"}]}
    >>> check_structure(document, trajectory_names=["in", "left", "right", "up"])
    ['samples[0].index is true: expected a whole number from 0 to 999999999, its own for every sample']
    >>> unknown_keys(document)
    [('samples[].author', 'samples[0].author')]
"""

from __future__ import annotations

import json
import re
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from worldexplorer.config import VGGT_IMAGE_RANGE

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

LARGEST_INDEX = 999_999_999
PROMPT_COUNT = 4
TEXT_LENGTH_LIMIT = 2_000
PATH_LENGTH_LIMIT = 4_096

Location = tuple[int | str, ...]
"""Keys and positions that lead from the whole file to a value."""

_CONTROL = r"\x00-\x1f\x7f-\x9f"
_CONTROL_BUT_LINES = r"\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"
_SHOWN_LENGTH = 200

Label = Annotated[str, Field(max_length=TEXT_LENGTH_LIMIT, pattern=rf"^[^{_CONTROL}]*$")]
PathText = Annotated[str, Field(min_length=1, max_length=PATH_LENGTH_LIMIT, pattern=rf"^[^{_CONTROL}]+$")]
Index = Annotated[int, Field(ge=0, le=LARGEST_INDEX)]
_Prompt = Annotated[
    str,
    Field(
        max_length=TEXT_LENGTH_LIMIT,
        pattern=rf"^[^{_CONTROL_BUT_LINES}]*[^{_CONTROL_BUT_LINES}\s][^{_CONTROL_BUT_LINES}]*$",
    ),
]


def _split_words(value: object) -> object:
    return value.replace(",", " ").split() if isinstance(value, str) else value


_IMAGE_PATH = "the path of an image file, relative to the data set, without control characters"
_FOLDER_PATH = "the path of a folder with the eight views, relative to the data set, without control characters"
_LABEL = f"one line of at most {TEXT_LENGTH_LIMIT:,} characters"


class StrictObject(BaseModel):
    """Takes values as they stand: no text for a number; what it does not know is left out."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


class VariantEntry(StrictObject):
    """`photorealistic` or `stylized` of a sample."""

    original_path: PathText | None = Field(None, description=_IMAGE_PATH)
    path: PathText | None = Field(None, description=_IMAGE_PATH)
    filename: PathText | None = Field(None, description="the name of an image file in the variant's folder")
    scaffold_path: PathText | None = Field(None, description=_FOLDER_PATH)

    def image_paths(self, variant: str) -> list[tuple[str, str]]:
        """The image paths it gives, in order of precedence: (key, path relative to the data set)."""
        given = [
            ("original_path", self.original_path),
            ("path", self.path),
            ("filename", self.filename and f"{variant}/{self.filename}"),
        ]
        return [(key, path) for key, path in given if path is not None]

    @property
    def says_something(self) -> bool:
        """Whether it names an image or a scaffold at all."""
        return any((self.original_path, self.path, self.filename, self.scaffold_path))


class ScaffoldEntry(StrictObject):
    """`scaffold` of a sample."""

    mode: Literal["fast", "automatic", "manual"] | None = Field(None, description='"fast", "automatic" or "manual"')
    custom: bool | None = Field(None, description="true or false")
    prompts: Annotated[list[_Prompt], Field(min_length=PROMPT_COUNT, max_length=PROMPT_COUNT)] | None = Field(
        None,
        description=f"{PROMPT_COUNT} texts (North, West, South, East), each of 1 to {TEXT_LENGTH_LIMIT:,} characters",
    )
    scaffold_path: PathText | None = Field(None, description=_FOLDER_PATH)
    input_image: PathText | None = Field(None, description=_IMAGE_PATH)


class ExpansionEntry(StrictObject):
    """`expansion` of a sample."""

    translation_scaling_factor: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        None, description="a finite number above 0, such as 3.0 indoors or 10.0 outdoors"
    )
    trajectory_order: Annotated[list[str], BeforeValidator(_split_words)] | None = Field(
        None, description="trajectory names, each once, as a list or separated by spaces"
    )
    num_images_for_vggt: Annotated[int, Field(ge=VGGT_IMAGE_RANGE[0], le=VGGT_IMAGE_RANGE[1])] | None = Field(
        None, description=f"a whole number from {VGGT_IMAGE_RANGE[0]} to {VGGT_IMAGE_RANGE[1]}"
    )

    @field_validator("trajectory_order")
    @classmethod
    def _names_are_known(cls, names: list[str] | None, info: ValidationInfo) -> list[str] | None:
        assert info.context is not None
        known = info.context["trajectory_names"]
        if names is None:
            return None
        if not names or len(set(names)) < len(names) or not set(names) <= set(known):
            expected = f"some of the trajectories {', '.join(known)}, each once, as a list or separated by spaces"
            raise PydanticCustomError("trajectory_names", "{expected}", {"expected": expected})
        return names


class SampleEntry(StrictObject):
    """An element of `samples`."""

    index: Index = Field(description=f"a whole number from 0 to {LARGEST_INDEX}, its own for every sample")
    photorealistic: VariantEntry | None = Field(None, description='an object such as {"original_path": "photo.png"}')
    stylized: VariantEntry | None = Field(None, description='an object such as {"original_path": "painting.png"}')
    scene_type: Label | None = Field(None, description=f'"indoor", "outdoor" or {_LABEL}')
    category: Label | None = Field(None, description=_LABEL)
    theme: Label | None = Field(None, description=_LABEL)
    scaffold: ScaffoldEntry | None = Field(None, description='an object such as {"mode": "fast"}')
    expansion: ExpansionEntry | None = Field(None, description='an object such as {"translation_scaling_factor": 3.0}')

    def variants(self) -> list[tuple[str, VariantEntry]]:
        """The variants that name an image or a scaffold, in the order of their jobs."""
        entries = (("photorealistic", self.photorealistic), ("stylized", self.stylized))
        return [(name, entry) for name, entry in entries if entry is not None and entry.says_something]


class MetadataFile(StrictObject):
    """The whole file."""

    samples: Annotated[list[SampleEntry], Field(min_length=1)] = Field(
        description='a list of at least one sample, each an object such as {"index": 0}'
    )


def check_structure(document: object, trajectory_names: Collection[str]) -> MetadataFile | list[str]:
    """Validate the parsed file.

    Args:
        document: what the JSON text holds.
        trajectory_names: the names that `expansion.trajectory_order` may use.

    Returns:
        The file, or its problems, at least one: JSON path, what stands there, what is expected.
    """
    repeated = _repeated_indices(document)
    try:
        metadata = MetadataFile.model_validate(document, context={"trajectory_names": tuple(trajectory_names)})
    except ValidationError as error:
        return [_problem(detail) for detail in error.errors(include_url=False)] + repeated
    return repeated or metadata


def unknown_keys(document: object) -> list[tuple[str, str]]:
    """The keys no model knows: (the path with the positions in lists left out, the exact path), in file order."""
    places = _unknown_keys(document, MetadataFile, ())
    return [(json_path(place, positions=False), json_path(place)) for place in places]


def json_path(location: Location, *, positions: bool = True) -> str:
    """`("samples", 3, "index")` as `samples[3].index`, or as `samples[].index` without the positions in lists."""
    path = ""
    for part in location:
        path += (f"[{part}]" if positions else "[]") if isinstance(part, int) else _key(path, part)
    return path or "the file"


def describe(value: object) -> str:
    """A JSON value in a few words for an error message."""
    if value in ({}, []):
        return "an empty object" if isinstance(value, dict) else "an empty list"
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    nested = any(isinstance(item, (dict, list)) for item in items)
    text = "" if nested else json.dumps(value)
    if text and len(text) <= _SHOWN_LENGTH:
        return text
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return f"a text of {len(value):,} characters" if isinstance(value, str) else f"{text[:_SHOWN_LENGTH]}..."


def _key(path: str, key: str) -> str:
    if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,60}", key):
        return f".{key}" if path else key
    text = json.dumps(key)
    return f"[{text}]" if len(text) <= _SHOWN_LENGTH else f"[{text[:_SHOWN_LENGTH]}...]"


def _problem(detail: ErrorDetails) -> str:
    location = detail["loc"]
    expected = detail["ctx"]["expected"] if detail["type"] == "trajectory_names" else _expected(location)
    found = "is missing" if detail["type"] == "missing" else f"is {describe(detail['input'])}"
    return f"{json_path(location)} {found}: expected {expected}"


def _expected(location: Location) -> str:
    """The description of the last field on the way to `location`."""
    model: type[BaseModel] | None = MetadataFile
    description = 'an object with a list "samples"'
    for part in location:
        if isinstance(part, int) or model is None:
            continue
        field = model.model_fields[part]
        description = field.description or ""
        model = _model_in(field.annotation)
    return description


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model class that an annotation such as `list[SampleEntry] | None` is about."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for part in get_args(annotation) if (model := _model_in(part)) is not None), None)


@cache
def _nested_models(model: type[BaseModel]) -> dict[str, type[BaseModel] | None]:
    """The keys a model knows and the model below each."""
    return {name: _model_in(field.annotation) for name, field in model.model_fields.items()}


def _unknown_keys(value: object, model: type[BaseModel], place: Location) -> Iterator[Location]:
    if isinstance(value, list):
        for position, item in enumerate(value):
            yield from _unknown_keys(item, model, (*place, position))
    elif isinstance(value, dict):
        known = _nested_models(model)
        for key, item in value.items():
            if key not in known:
                yield (*place, key)
            elif (nested := known[key]) is not None:
                yield from _unknown_keys(item, nested, (*place, key))


def _repeated_indices(document: object) -> list[str]:
    samples = document.get("samples") if isinstance(document, dict) else None
    first_at: dict[int, int] = {}
    problems = []
    for position, sample in enumerate(samples if isinstance(samples, list) else []):
        index = sample.get("index") if isinstance(sample, dict) else None
        if not isinstance(index, int) or isinstance(index, bool):
            continue
        if index in first_at:
            problems.append(
                f"samples[{position}].index is {describe(index)}, which samples[{first_at[index]}] has already: "
                "expected an index of its own for every sample"
            )
        first_at.setdefault(index, position)
    return problems
