"""Results stored in a lesson are compared with a run's, within a tolerance."""

import re
import shutil
import subprocess
import sys

import nbformat

from conftest import PROJECT

STORED = {
    "test ROC AUC 0.90": True,
    "test ROC AUC 0.93": True,
    "test ROC AUC 0.98": False,
    "dev ROC AUC 0.90": False,
    "test ROC AUC 0.90, 0.91": False,
    "": False,
}
"""Whether a cell holds with this stored result, when a run gives ``test ROC AUC 0.90``."""


def test_a_close_cell_fails_when_its_stored_result_is_not_what_a_run_gives(tmp_path):
    cells = []
    for stored in STORED:
        cell = nbformat.v4.new_code_cell('print("test ROC AUC 0.90")', metadata={"tags": ["close"]}, execution_count=1)
        cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=stored + "\n")] if stored else []
        cells.append(cell)
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "lesson.ipynb")
    shutil.copy(PROJECT / "conftest.py", tmp_path)
    options = ["--nbval-lax", "--nbval-current-env", "-p", "no:cacheprovider", "-rA", "lesson.ipynb"]
    run = subprocess.run([sys.executable, "-m", "pytest", *options], cwd=tmp_path, capture_output=True, text=True)
    ended = re.findall(r"^(PASSED|FAILED) lesson.ipynb::Cell (\d)", run.stdout, re.MULTILINE)
    assert {int(i): end == "PASSED" for end, i in ended} == dict(enumerate(STORED.values())), run.stdout + run.stderr
    for stored, holds in STORED.items():
        assert (f"stored in the notebook:\n{stored}\n" in run.stdout) != holds
