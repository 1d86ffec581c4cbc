"""Profiles: where a run's pods go, as small files of parameters and build settings.

A profile is a YAML file with `description`, `parameters` (run parameters by name) and `build` (fields of
:class:`pipelines.settings.BuildSettings`). Those of the project lie in `pipelines/profiles/`; a path names one's own.
`image:NAME` stands for the pinned reference of the project's image NAME.

Example:
    >>> profile = load_profile("gke-l4-spot")
    >>> profile.parameters["node_selector"]["cloud.google.com/gke-accelerator"]
    'nvidia-l4'
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from components.container import image_reference
from pipelines.parameters import RUN_PARAMETERS
from pipelines.settings import BuildSettings
from worldexplorer.cli.parser import closest
from worldexplorer.errors import UsageError

FOLDER = Path(__file__).resolve().parent / "profiles"
_IMAGE = "image:"
_SECTIONS = ("description", "parameters", "build")
_TYPES: Mapping[str, type] = {"string": str, "int": int, "bool": bool, "object": dict, "list": list}


@dataclass(frozen=True)
class Profile:
    """What a profile's file says.

    Attributes:
        parameters: run parameters, typed as :data:`RUN_PARAMETERS` declares them.
        build: what the pipeline is compiled with.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]
    build: BuildSettings


def profile_names() -> list[str]:
    """The project's profiles."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_profile(name_or_path: str) -> Profile:
    """A profile of the project by name, or any by the path of its file.

    Raises:
        UsageError: there is none, it cannot be read, or it sets something that is no parameter or no build setting.
    """
    path = _path(name_or_path)
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"the profile cannot be read: {error}", where=str(path)) from None
    if not isinstance(document, dict):
        raise UsageError("the profile holds no settings", where=str(path), remedy=f"give it {', '.join(_SECTIONS)}")
    for section in document:
        _require_known(section, _SECTIONS, "section", str(path))
    return Profile(
        name=path.stem,
        description=str(document.get("description", "")),
        parameters=_parameters(_section(document, "parameters", str(path)), str(path)),
        build=_build(_section(document, "build", str(path)), str(path)),
    )


def _path(name_or_path: str) -> Path:
    if name_or_path.endswith((".yaml", ".yml")) or "/" in name_or_path:
        return Path(name_or_path)
    if name_or_path not in profile_names():
        guess = closest(name_or_path, profile_names())
        raise UsageError(
            f"there is no profile {name_or_path!r}",
            where="--profile",
            remedy=(f"perhaps {guess} was meant; " if guess else "") + f"choose from {', '.join(profile_names())}, or "
            "give the path of a file",
        )
    return FOLDER / f"{name_or_path}.yaml"


def _section(document: Mapping[str, Any], name: str, where: str) -> Mapping[str, Any]:
    """A section's settings by name; none where the profile has no such section."""
    content = document.get(name)
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UsageError(
            f"the section {name} is no mapping", where=where, remedy="write it as NAME: VALUE, a line each"
        )
    return content


def _parameters(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        _require_known(name, RUN_PARAMETERS, "parameter", where)
        _require_type(name, value, _TYPES[RUN_PARAMETERS[name].kind], where)
        is_image = isinstance(value, str) and value.startswith(_IMAGE)
        found[name] = _image(value.removeprefix(_IMAGE), where) if is_image else value
    return found


def _image(name: str, where: str) -> str:
    try:
        return image_reference(name)
    except KeyError:
        raise UsageError(
            f"the project has no image {name!r}",
            where=where,
            remedy="name a folder below images/ that has a Dockerfile",
        ) from None


def _build(values: Mapping[str, Any], where: str) -> BuildSettings:
    known = {one.name: one for one in fields(BuildSettings)}
    for name, value in values.items():
        _require_known(name, known, "build setting", where)
        _require_type(name, value, type(known[name].default), where)
    try:
        return BuildSettings(**values)
    except UsageError as error:
        raise UsageError(error.what, where=f"{where}: build.{error.where}", remedy=error.remedy) from None


def _require_known(name: str, known: Any, what: str, where: str) -> None:
    if name not in known:
        guess = closest(str(name), list(known))
        raise UsageError(
            f"{name!r} is no {what}",
            where=where,
            remedy=(f"perhaps {guess} was meant; " if guess else "") + f"choose from {', '.join(known)}",
        )


def _require_type(name: str, value: Any, kind: type, where: str) -> None:
    if type(value) is not kind:
        raise UsageError(
            f"{name} is {value!r}, not of type {kind.__name__}",
            where=where,
            remedy='put numbers that are texts in quotation marks: "1"' if kind is str else f"give a {kind.__name__}",
        )
