"""Stands for the tests of this folder where their packages are missing: listed as NOT RUN, or failed by REQUIRE_ALL."""

from __future__ import annotations

import importlib

import pytest


@pytest.mark.requires_part("torch")
@pytest.mark.parametrize("name", ["torch", "diffusers", "transformers", "safetensors"])
def test_the_packages_of_the_models_are_there(name: str) -> None:
    assert importlib.import_module(name).__version__
