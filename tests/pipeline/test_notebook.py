"""The example notebook, executed against a fake server whose runs make small worlds; and as it is committed."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import nbclient
import nbformat
import pytest
from PIL import Image
from pipeline.cluster import make_worlds
from pipeline.driver import dataset, server
from pipeline.fake_kfp import FakeKubeflow, state

__all__ = ["server"]
NOTEBOOK = Path(__file__).resolve().parents[2] / "examples" / "notebook" / "worldexplorer.ipynb"


def read() -> nbformat.NotebookNode:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    return notebook


def execute(notebook: nbformat.NotebookNode) -> dict[str, nbformat.NotebookNode]:
    """Run all cells; by id."""
    resources = {"metadata": {"path": str(NOTEBOOK.parent)}}
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3", resources=resources).execute()
    return {cell.id: cell for cell in notebook.cells}


def said(cell: nbformat.NotebookNode) -> str:
    """All text that a cell left, of whichever kind."""
    texts = [output.get("text", "") for output in cell.outputs]
    return "\n".join([*texts, *(output.get("data", {}).get("text/plain", "") for output in cell.outputs)])


@pytest.mark.slow
def test_it_builds_submits_waits_and_shows(
    server: FakeKubeflow, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server.tokens = {"notebook-token"}
    server.script = [state("RUNNING", {"plan": "SUCCEEDED", "jobs": "RUNNING"}), state("SUCCEEDED")]
    server.on_run = make_worlds()
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", server.url)
    monkeypatch.setenv("KF_PIPELINES_TOKEN", "notebook-token")
    monkeypatch.setenv("HOME", str(tmp_path))  # the SDK keeps what it knows of servers there
    words = dataset(tmp_path, 1)
    notebook = read()
    (place,) = [number for number, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", ())]
    ours = f"DATASET_DIR, OUTPUT_BASE = {words[1]!r}, {words[3]!r}"
    small = 'SETTINGS = {"num_seva_frames": 8, "trajectory_order": "in"}'
    notebook.cells.insert(place + 1, nbformat.v4.new_code_cell(f"{ours}\n{small}"))
    cells = execute(notebook)
    (run_id,) = server.runs
    assert run_id in said(cells["submit"])
    assert server.runs[run_id]["runtime_config"]["parameters"]["engine"] == "preview"
    assert "RUNNING, 1 of 2 tasks ended" in said(cells["wait"])
    assert "SUCCEEDED" in said(cells["wait"])
    assert "photorealistic/index_0000" in said(cells["summary"])
    assert "1 success" in said(cells["summary"])
    pictures = [
        output.data["image/png"] for output in cells["picture"].outputs if "image/png" in output.get("data", {})
    ]
    with Image.open(io.BytesIO(base64.b64decode(pictures[0]))) as picture:
        assert picture.width > 100
    assert all("notebook-token" not in said(cell) for cell in cells.values() if cell.cell_type == "code")


def test_it_is_committed_without_results_and_without_places_of_a_machine() -> None:
    notebook = read()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None
    text = NOTEBOOK.read_text()
    for place in ("/home/", "/root/", "/tmp/", "/Users/", str(NOTEBOOK.parents[2]), "C:\\\\"):
        assert place not in text
