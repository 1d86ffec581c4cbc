"""The versions of the engine's algorithms, which go into every fingerprint.

A version is raised by one whenever a change makes something else from the same photo and settings.
"""

from __future__ import annotations

from collections.abc import Mapping

ALGORITHM_VERSIONS: Mapping[str, int] = {"world": 1, "renderer": 1, "trainer": 1}
