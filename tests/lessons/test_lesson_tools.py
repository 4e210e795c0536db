"""What lessons ask for and show: predictions, short source, the study's tables, a step's folder, and the machine."""

import io
import json
import re
from pathlib import Path
from types import SimpleNamespace

import IPython
import numpy as np
import pytest

from common import cli, lesson
from common.lesson import prediction, reading, ready, start
from conftest import PROJECT


@pytest.fixture
def somebody(monkeypatch):
    """Has a person, or nobody, sit at the notebook."""

    def sits(there):
        monkeypatch.setattr(IPython, "get_ipython", lambda: SimpleNamespace(kernel=SimpleNamespace(_allow_stdin=there)))

    return sits


def test_a_person_is_asked_for_a_prediction_before_anything_is_shown(somebody, capsys):
    somebody(True)
    for ask in (lambda: lesson.predict(None), lambda: lesson.compare(None, 0.9123, "ROC AUC")):
        with pytest.raises(prediction.NoPredictionError, match=r"^type your prediction .*in place of None") as error:
            ask()
        assert error.value._render_traceback_() == [str(error.value)]  # what IPython shows: one line
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("there", [True, False])
def test_a_prediction_is_shown_again_and_beside_the_result(there, somebody, capsys):
    somebody(there)
    lesson.predict(0.8)
    lesson.compare(0.8, np.float64(0.9123), "ROC AUC")
    lesson.compare("the same", "another", "the score")
    lesson.compare(3, np.int64(15), "the number of networks")
    lesson.compare(0.03, 0.0284, "optimism", digits=3)
    assert capsys.readouterr().out.splitlines() == [
        "your prediction: 0.8",
        "you predicted 0.80; ROC AUC is 0.91",
        "you predicted the same; the score is another",
        "you predicted 3; the number of networks is 15",
        "you predicted 0.030; optimism is 0.028",
    ]


def test_where_nobody_sits_cells_go_on(somebody, capsys):
    somebody(False)
    lesson.predict(None)
    lesson.compare(None, 0.9123, "ROC AUC")
    assert capsys.readouterr().out.splitlines() == ["no prediction: nobody is at the keyboard", "ROC AUC is 0.91"]


def documented(a):
    """Says nothing.

    At length.
    """
    return a


def test_source_is_folded_short_and_without_docstrings_where_asked(tmp_path):
    shown = lesson.source(documented).data
    assert shown.startswith("<details>") and "source of documented (6 lines)" in shown and "At length" in shown
    shown = lesson.source(documented, docstrings=False).data
    assert "(2 lines)" in shown and "At length" not in shown and "return" in shown
    (tmp_path / "long.py").write_text("a = 1\n" * 41)
    with pytest.raises(cli.UserError, match=r"^source of long\.py: 41 lines; a lesson shows at most 40"):
        lesson.source(tmp_path / "long.py")


@pytest.mark.parametrize("step", range(1, 6))
def test_no_stored_lesson_shows_more_than_40_lines_of_source_at_once(step):
    cells = json.loads((PROJECT / f"step_{step}" / "lesson.ipynb").read_text())["cells"]
    pages = ["".join(o.get("data", {}).get("text/html", "")) for cell in cells for o in cell.get("outputs", ())]
    shown = [page for page in pages if "<pre" in page and reading._FONT in page]
    lengths = [len(re.sub("<[^>]*>", "", page.partition("<pre")[2]).strip().splitlines()) for page in shown]
    assert max(lengths, default=0) <= reading.MOST_LINES
    assert all(page.startswith("<details>") for page in shown)


@pytest.mark.parametrize("notebook", ["lesson", "solutions"])
@pytest.mark.parametrize("step", range(1, 6))
def test_no_stored_output_holds_a_path_of_the_machine_that_ran_it(step, notebook):
    cells = json.loads((PROJECT / f"step_{step}" / f"{notebook}.ipynb").read_text())["cells"]
    outputs = json.dumps([[output.get("text"), output.get("data")] for c in cells for output in c.get("outputs", ())])
    assert not re.findall(r"/(?:tmp|home|root|work|Users|mnt|dev/shm)/[\w./-]+", outputs)


def test_a_table_of_the_study_is_read_with_its_numbers_as_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr("common.lesson.tables.PROJECT", tmp_path)
    with pytest.raises(cli.UserError, match="there are no tables"):
        lesson.study("folds")
    (tmp_path / "study" / "results").mkdir(parents=True)
    (tmp_path / "study" / "results" / "folds.csv").write_text("seed,test_roc_auc\n0,0.30000000000000004\n")
    assert lesson.study("folds").test_roc_auc.tolist() == [0.1 + 0.2]
    with pytest.raises(cli.UserError, match=r"study\('fold'\): no such table.*one of folds; did you mean `folds`"):
        lesson.study("fold")


@pytest.mark.parametrize("step", start.STEPS)
def test_a_folder_to_build_a_step_in_has_the_step_before_and_is_never_written_over(step, tmp_path, capsys):
    folder = tmp_path / "mine"
    start.main([str(step), str(folder)])
    said = capsys.readouterr().out.splitlines()
    config = f" {folder}/config.py" if step == 5 else ""
    assert len(said) == 3 and f"python {folder}/train.py{config} --fast" in said[1] and f"check {folder}" in said[2]
    assert {path.name for path in folder.iterdir()} == {"train.py", "analyze_predictions.py", "specification.md"}
    for name, of_step in (("train.py", step - 1), ("specification.md", step)):
        assert (folder / name).read_bytes() == (PROJECT / f"step_{of_step}" / name).read_bytes()
    (folder / "train.py").write_text("mine")
    with pytest.raises(cli.UserError, match="there already, and nothing is overwritten"):
        start.main([str(step), str(folder)])
    assert (folder / "train.py").read_text() == "mine"
    (tmp_path / "file").write_text("")
    with pytest.raises(cli.UserError, match="cannot be written"):
        start.main([str(step), str(tmp_path / "file" / "below")])


@pytest.mark.parametrize("step", start.STEPS)
def test_a_specification_names_functions_that_exist_and_lines_that_are_python(step):
    from common import data, evaluation, plots, search, tracking, training  # noqa: F401

    text = (PROJECT / f"step_{step}" / "specification.md").read_text()
    rooms = locals() | {"cli": cli}
    named = set(re.findall(r"\b(cli|data|evaluation|plots|search|tracking|training)\.([a-z_A-Z]+)\b", text))
    assert len(named) >= 5
    assert [found for found in named if not hasattr(rooms[found[0]], found[1])] == []
    methods = set(re.findall(r"\b(?:run|root_run|trial_run|fold_run|analysis)\.([a-z_]+)\(", text))
    assert [name for name in methods if not hasattr(tracking.Run, name)] == []


def test_a_machine_that_is_ready_is_said_to_be_and_one_that_is_not_is_told_what_to_do(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("REPROAI_STATE", str(tmp_path))
    monkeypatch.setattr(
        ready, "CHECKS", {name: ready.CHECKS[name] for name in ("disk", "memory", "state folder", "git")}
    )
    assert ready.main([]) == 4
    said = capsys.readouterr().out
    assert said.endswith("\nready\n") and len(said.splitlines()) == 5 and str(tmp_path) in said
    monkeypatch.setattr(ready, "LEAST_DISK", 1e9)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SystemExit) as end:
        ready.main([])
    said = capsys.readouterr().out
    assert end.value.code == 1 and said.endswith("not ready: 2 of 4 need something\n")
    assert "free 1e+09 GB" in said and "git-scm.com" in said


def test_a_port_that_is_taken_a_version_that_differs_and_an_error_are_told(monkeypatch):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setattr(ready, "PORT", taken.getsockname()[1])
        with pytest.raises(ready.NotReadyError, match=r"run_mlflow_ui\.bash"):
            ready.CHECKS["MLflow's UI"]()
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.0.1")
    with pytest.raises(
        ready.NotReadyError, match=r"not as in requirements.txt: .* 0\.0\.1 \(==.*and \d+ more; run this"
    ):
        ready.CHECKS["packages"]()
    monkeypatch.setattr(ready, "CHECKS", {"one": Path("no disk").read_text})
    assert [(name, holds) for name, holds, found in ready.looked_at() if "no disk" in found] == [("one", False)]


def test_a_tiny_network_is_trained_on_pictures_that_are_drawn():
    assert re.match(r"60 pictures drawn, one network trained for an epoch, in \d", ready.CHECKS["data and training"]())


def test_signs_are_of_characters_that_the_terminal_has():
    from common.lesson.check import sign_of

    utf, ascii_only = (io.TextIOWrapper(io.BytesIO(), encoding=name) for name in ("utf-8", "ascii"))
    assert (sign_of(True, utf), sign_of(False, utf)) == ("✓", "✗")
    assert (sign_of(True, ascii_only), sign_of(False, ascii_only)) == ("yes", "no ")


def test_in_a_kernel_a_person_is_stopped_with_one_line_and_headless_cells_go_on(monkeypatch):
    from jupyter_client.manager import start_new_kernel

    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    manager, client = start_new_kernel(kernel_name="python3")
    try:

        def run(code, somebody_is_there):
            said = []
            client.execute_interactive(
                code,
                timeout=60,
                allow_stdin=somebody_is_there,
                output_hook=lambda message: said.append(message["content"]),
            )
            return [content[key] for content in said for key in ("text", "traceback") if key in content]

        ask = "from common import lesson; lesson.predict(None)"
        assert run(ask, False) == ["no prediction: nobody is at the keyboard\n"]
        assert run(ask, True) == [["type your prediction in place of None, then run this cell again"]]
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
