"""Results stored in a lesson are compared with a run's, within a tolerance."""

import shutil
import subprocess
import sys

import nbformat
import pytest

from conftest import PROJECT


@pytest.mark.parametrize(
    ("stored", "holds"),
    [
        ("test ROC AUC 0.90", True),
        ("test ROC AUC 0.93", True),
        ("test ROC AUC 0.98", False),
        ("dev ROC AUC 0.90", False),
        ("test ROC AUC 0.90, 0.91", False),
        ("", False),
    ],
)
def test_a_close_cell_fails_when_its_stored_result_is_not_what_a_run_gives(tmp_path, stored, holds):
    cell = nbformat.v4.new_code_cell('print("test ROC AUC 0.90")', metadata={"tags": ["close"]}, execution_count=1)
    cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=stored + "\n")] if stored else []
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "lesson.ipynb")
    shutil.copy(PROJECT / "conftest.py", tmp_path)
    options = ["--nbval-lax", "--nbval-current-env", "-p", "no:cacheprovider", "lesson.ipynb"]
    run = subprocess.run([sys.executable, "-m", "pytest", *options], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == (0 if holds else 1), run.stdout + run.stderr
    if not holds and stored:
        assert f"stored in the notebook:\n{stored}" in run.stdout
