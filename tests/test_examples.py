"""The notebooks under examples/ run from the first cell to the last, on what a newcomer has; outputs are not stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from commands import spikescr
from helpers import write_tones
from nbclient import NotebookClient

EXAMPLES = Path(__file__).parents[1] / "examples"
TRAIN = ["steps=20", "model.heads=2", "model.width=16", "batch_size=16", "threads=1", "epochs=3"]

# Of the notebook's own packages, which run in this process.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.lava,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:(jupyter_client|zmq|nbclient|traitlets|asyncio)"),
]


def executed(name: str, folder: Path) -> str:
    """All that the cells of a notebook show, run in a folder."""
    notebook: Any = nbformat.read(EXAMPLES / name, as_version=4)
    NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()
    shown = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            assert output.output_type != "error"
            shown.append(output.get("text", "") or output.get("data", {}).get("text/plain", ""))
            if "text/html" in output.get("data", {}):
                shown.append(output.data["text/html"])
    return "\n".join(shown)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.ipynb")), ids=lambda path: path.name)
def test_outputs_are_not_stored(path: Path) -> None:
    notebook: Any = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert (cell.outputs, cell.execution_count) == ([], None)


def test_from_a_trained_run_to_why_the_paper_differs(tmp_path: Path) -> None:
    write_tones(tmp_path / "tones", takes=4)
    train = ["train", "--data", "folder:tones", "--run", "runs/demo", *TRAIN]
    assert spikescr(*train, cwd=tmp_path).returncode == 0
    shown = executed("energy.ipynb", tmp_path)
    assert "0 differing spikes" in shown
    assert "padding" in shown
    assert "attention order" in shown
    assert "<table>" in shown
    assert (tmp_path / "audit.npz").exists()


def test_any_graph_on_an_array(tmp_path: Path) -> None:
    shown = executed("any_graph.ipynb", tmp_path)
    assert "accumulations" in shown
    assert "<table>" in shown
    assert not list(tmp_path.glob("*.npz"))
