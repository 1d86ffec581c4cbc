"""Few real runs that serve many tests: each is made once, when the first test asks for it."""

from __future__ import annotations

import pytest
from e2e.program import ROOT, Program, save_landscape, write_dataset

PHOTOGRAPH = ROOT / "examples/demo/photorealistic/china.jpg"


@pytest.fixture(scope="session")
def dataset(tmp_path_factory):
    """Four outdoor samples, to be left as they are: 1 is a real photograph, 3 says itself how far to go."""
    folder = tmp_path_factory.mktemp("photos") / "data"
    samples = []
    for index in range(4):
        name = f"photorealistic/{index}.png"
        if index == 1:
            name = str(PHOTOGRAPH)
        else:
            save_landscape(folder / name, index)
        samples.append({"index": index, "photorealistic": {"original_path": name}})
    samples[3]["expansion"] = {"translation_scaling_factor": 4.5}
    return write_dataset(folder, samples)


@pytest.fixture(scope="session")
def reference(tmp_path_factory, dataset):
    """All stages of samples 0 and 1 in one worker, undisturbed; to be left as it is."""
    program = Program(tmp_path_factory.mktemp("reference"))
    program.succeed("--dataset_dir", dataset, "--indices", "0-1", NUMBA_NUM_THREADS="2")
    return program
