"""A scaffold made elsewhere: eight views in a folder, checked before stage 2 builds on them.

The folder itself or the folder `final` inside it holds 000 to 007, each a square PNG, JPEG or WebP image; view k looks
45 k degrees to the left of view 000.

Example:
    >>> [path.name for path in validate_scaffold_folder(Path("scaffolds/scene_0005"))]
    ['000.png', '001.png', '002.png', '003.png', '004.png', '005.png', '006.png', '007.png']
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from worldexplorer.errors import UserError
from worldexplorer.photo.pixels import load_photo

if TYPE_CHECKING:
    from pathlib import Path

VIEW_NAMES = tuple(f"{view:03d}" for view in range(8))
"""Names of the views without their endings."""

_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
_EXPECTED = (
    "put the eight square views there as 000 to 007 (png, jpg, jpeg or webp), in the folder or in final/ inside it"
)
_LEAST_DEVIATION = 1.0


def validate_scaffold_folder(folder: Path) -> list[Path]:
    """Find the eight views of a finished scaffold and decode them.

    Args:
        folder: as :func:`find_scaffold_views` takes it.

    Returns:
        The paths of the views 000 to 007.

    Raises:
        UserError: as :func:`find_scaffold_views`, and for the first view that is not decodable, not square, under 64
            pixels wide or of one colour.
    """
    views = find_scaffold_views(folder)
    for path in views:
        _check_view(path)
    return views


def find_scaffold_views(folder: Path) -> list[Path]:
    """Find the eight views of a finished scaffold, by their names alone.

    Args:
        folder: holds the views, or a folder `final` that does, which then counts alone.

    Returns:
        The paths of the views 000 to 007.

    Raises:
        UserError: names the first view that is missing, there twice or too many.
    """
    if not folder.is_dir():
        raise UserError("the scaffold folder does not exist", where=str(folder), remedy=_EXPECTED)
    home = folder / "final" if (folder / "final").is_dir() else folder
    found: dict[str, list[Path]] = {}
    for path in sorted(home.iterdir()):
        if path.suffix.lower() in _SUFFIXES and path.stem.isdigit():
            found.setdefault(path.stem, []).append(path)
    for name in VIEW_NAMES:
        if name not in found:
            raise UserError(f"the scaffold has no view {name}", where=str(home), remedy=_EXPECTED)
    for name, paths in found.items():
        if name not in VIEW_NAMES:
            raise UserError(
                f"the scaffold holds {paths[0].name} besides the views 000 to 007",
                where=str(paths[0]),
                remedy="take it away, so that exactly eight numbered images are left",
            )
        if len(paths) > 1:
            names = " and ".join(path.name for path in paths)
            raise UserError(f"the scaffold has view {name} twice: {names}", where=str(home), remedy="keep one of them")
    return [found[name][0] for name in VIEW_NAMES]


def _check_view(path: Path) -> None:
    view = load_photo(path)
    height, width = view.shape[:2]
    if width != height:
        raise UserError(
            f"the scaffold view has {width}x{height} pixels and is not square",
            where=str(path),
            remedy="use views as wide as they are high, 60.08 degrees across",
        )
    if view.reshape(-1, 3).std(axis=0).max() < _LEAST_DEVIATION:
        raise UserError("the scaffold view is of one colour", where=str(path), remedy="make the scaffold again")
