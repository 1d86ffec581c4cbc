"""Parts of the machine that some tests need: Docker, a browser, npm.

`@pytest.mark.requires_part("docker")` runs a test where the part is there. Elsewhere the test is skipped and the part
is listed as NOT RUN at the end; with REQUIRE_ALL=1 a missing part fails the test, unless it is one that only a person
can bring.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping

import pytest

PARTS: Mapping[str, tuple[str, ...]] = {
    "docker": ("dockerd",),
    "docker-registry": ("docker-registry",),
    "mmdebstrap": ("mmdebstrap",),
    "chromium": ("chromium", "chromium-browser", "google-chrome"),
    "npm": ("npm",),
    "kubectl": ("kubectl", "kustomize"),
}
"""Each part and the programs that any one of which stands for it."""

PACKAGES: Mapping[str, tuple[str, ...]] = {
    "torch": ("torch", "diffusers", "transformers", "safetensors"),
    "gsply": ("gsply",),
    "vggt": ("vggt",),
    "depth-anything-3": ("depth_anything_3",),
    "lpips": ("torchmetrics", "torchvision"),
}
"""Parts that are Python packages, all of which are needed."""

BROUGHT_BY_HAND = frozenset({"vggt", "depth-anything-3", "lpips"})
"""Packages of networks that are installed without what they ask for, one of them under a research licence, and what
an optional measure needs: where they are missing their tests are listed as NOT RUN, with REQUIRE_ALL=1 too."""

_PREFIX = "part not found: "


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("requires_part"):
        (part,) = marker.args
        if part in PACKAGES:
            there = all(importlib.util.find_spec(name) for name in PACKAGES[part])
            needed = " and ".join(PACKAGES[part])
        else:
            there = any(shutil.which(program) for program in PARTS[part])
            needed = " or ".join(PARTS[part])
        if there:
            continue
        reason = f"{_PREFIX}{part} ({needed})"
        if os.environ.get("REQUIRE_ALL") == "1" and part not in BROUGHT_BY_HAND:
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)


@pytest.fixture(scope="session", autouse=True)
def _gpus_are_looked_at_once() -> Iterator[None]:
    """A look takes seconds, in which a process loads torch; this machine's GPUs stay the same meanwhile."""
    from worldexplorer.models import engine, gpus

    with pytest.MonkeyPatch.context() as patch:
        once = functools.cache(gpus.look_at_gpus)
        for module in (gpus, engine):
            patch.setattr(module, "look_at_gpus", once)
        yield


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reasons = (
        str(report.longrepr[2]).removeprefix("Skipped: ")
        for report in terminalreporter.stats.get("skipped", ())
        if isinstance(report.longrepr, tuple)
    )
    missing = Counter(reason.removeprefix(_PREFIX) for reason in reasons if reason.startswith(_PREFIX))
    if missing:
        terminalreporter.section("NOT RUN")
        for part, count in sorted(missing.items()):
            terminalreporter.line(f"{part}: {count} {'test' if count == 1 else 'tests'}")
