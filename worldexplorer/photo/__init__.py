"""The photo a job starts from: checked, decoded, cut to view 000; and a finished scaffold's eight views, checked.

:func:`check_header` looks at the first bytes only and is meant for the plan; :func:`load_photo` decodes every pixel.
What is wrong with an image is a :class:`~worldexplorer.errors.UserError` of its job.

Example:
    >>> check_header(Path("photo.jpg"))
    PhotoHeader(width=640, height=427, format='jpeg', animated=False)
    >>> photo = load_photo(Path("photo.jpg"))                     # [427, 640, 3] uint8 sRGB
    >>> round(photo_hfov(640, 427), 1)
    81.8
    >>> image, covered = view_zero(photo, None, 576)              # [576, 576, 3] uint8, [576, 576] bool
"""

from __future__ import annotations

from worldexplorer.photo.header import MAXIMUM_PIXELS, MINIMUM_SIDE, PhotoHeader, check_header
from worldexplorer.photo.pixels import load_photo
from worldexplorer.photo.scaffold_folder import VIEW_NAMES, find_scaffold_views, validate_scaffold_folder
from worldexplorer.photo.view import photo_focal, photo_hfov, square_crop, view_zero

__all__ = [
    "MAXIMUM_PIXELS",
    "MINIMUM_SIDE",
    "VIEW_NAMES",
    "PhotoHeader",
    "check_header",
    "find_scaffold_views",
    "load_photo",
    "photo_focal",
    "photo_hfov",
    "square_crop",
    "validate_scaffold_folder",
    "view_zero",
]
