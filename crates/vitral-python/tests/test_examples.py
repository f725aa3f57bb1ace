"""The examples, as users run them."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import vitral

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@pytest.mark.filterwarnings("ignore")
def test_the_notebook_runs_from_top_to_bottom():
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(EXAMPLES / "tour.ipynb", as_version=4)
    done = nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(EXAMPLES)}})
    done.execute()
    drawn = [output for cell in notebook.cells for output in cell.get("outputs", []) if "image/png" in output.get("data", {})]
    assert len(drawn) == 1


@pytest.mark.parametrize("engine", ["ray", "pyspark"])
def test_many_workers_give_the_rows_of_one(engine, images, tmp_path):
    pytest.importorskip(engine)
    parquet = pytest.importorskip("pyarrow.parquet")
    folder = tmp_path / "photos"
    folder.mkdir()
    for index in range(20):
        (folder / f"{index:02}.jpg").write_bytes(Path(images[index % 3]).read_bytes())
    script = {"ray": "ray_embed.py", "pyspark": "spark_embed.py"}[engine]
    options = ["--workers", "2"] if engine == "ray" else ["--master", "local[2]"]
    command = [sys.executable, str(EXAMPLES / script), str(folder), str(tmp_path / "features"), "--rows", "6", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    table = parquet.read_table(tmp_path / "features").sort_by("image")
    paths = vitral.images_in(folder)
    assert table.column("image").to_pylist() == paths
    found = np.stack([np.asarray(row, np.float32) for row in table.column("features").to_pylist()])
    assert np.array_equal(found, vitral.Model.load().embed(paths))
