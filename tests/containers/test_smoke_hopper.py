"""What the smoke test makes of the packages for Hopper GPUs; the images' own runs try the rest."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from types import ModuleType, SimpleNamespace

import pytest

from images.catalog import IMAGES

pytest.importorskip("torch")

ALL = ("flash-attn-4", "nvidia-cutlass-dsl", "quack-kernels")


@pytest.fixture
def smoke(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    for folder in (IMAGES, IMAGES / "hopper"):  # both files lie in one folder of an image
        monkeypatch.syspath_prepend(folder)
    return importlib.import_module("smoke_hopper")


@pytest.fixture
def installed(smoke: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Lets an image have the named packages, and torch."""

    def install(*names: str) -> None:
        found = [SimpleNamespace(metadata={"Name": name}) for name in ("torch", *names)]
        monkeypatch.setattr(smoke.metadata, "distributions", lambda: found)

    return install


def test_an_image_may_be_without_them(smoke: ModuleType, installed: Callable[..., None]) -> None:
    installed()
    assert smoke.check_hopper() is False


@pytest.mark.parametrize("there", [ALL[:1], ALL[1:]])
def test_an_image_with_a_part_of_them_fails(
    smoke: ModuleType, installed: Callable[..., None], there: tuple[str, ...]
) -> None:
    installed(*there)
    with pytest.raises(SystemExit, match=f"there are only {', '.join(there)}$"):
        smoke.check_hopper()


def test_an_image_with_all_of_them_must_import_and_compile(
    smoke: ModuleType, installed: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(*ALL)
    done: list[str] = []
    monkeypatch.setenv("CUTE_DSL_ARCH", "")
    monkeypatch.setattr(smoke, "require_imports", lambda *names: done.extend(names))
    monkeypatch.setattr(smoke, "_compile_kernel", lambda: done.append("compiled"))
    assert smoke.check_hopper() is True
    kernels = "worldexplorer.models.seva.kernels"
    assert done == [f"{kernels}.hopper_attention", f"{kernels}.hopper_products", "compiled"]
    assert all(importlib.util.find_spec(name) is not None for name in done[:-1])


def test_a_broken_package_ends_the_test(
    smoke: ModuleType, installed: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are not installed here, which is as broken as can be."""
    if importlib.util.find_spec("quack") is not None:
        pytest.skip("the packages are installed here")
    monkeypatch.setenv("CUTE_DSL_ARCH", "")
    installed(*ALL)
    with pytest.raises(ImportError):
        smoke.check_hopper()
