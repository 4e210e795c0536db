"""What an earlier version of the project has stored is found, moved and deleted by this one.

``old_run.json`` is a run of step 5 by the code of commit c934b95, before there was a ledger, and before intervals were
logged: its rows in MLflow's database, its study, and its texts.
"""

import json
from pathlib import Path

from kept_results import content_of, everything

from common import results
from common.results.opening import open_trees
from common.results.trees import KeptModel, KeptRun, Tree
from common.search.kept import put_studies
from common.state import work_folder
from common.tracking.store import open_store

OLD = json.loads(Path(__file__).with_name("old_run.json").read_text())


def put_old():
    tree = Tree(
        OLD["tree"]["experiment"],
        [KeptRun(**run) for run in OLD["tree"]["runs"]],
        [KeptModel(**model) for model in OLD["tree"]["models"]],
    )
    trees = open_trees()
    trees.add(tree, open_store(tree.experiment)[1])
    put_studies(OLD["studies"])
    for name, text in OLD["artifacts"].items():
        run_id, _, artifact = name.partition("/")
        path = Path(trees.artifacts(run_id).artifact_dir) / artifact
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tree.root.run_id


def test_a_run_of_the_version_before_is_listed_shown_moved_and_deleted(new_home, tmp_path, monkeypatch):
    for name in ("MLFLOW_TRACKING_URI", "OPTUNA_STORAGE", "REPROAI_CACHE"):
        monkeypatch.delenv(name, raising=False)
    new_home(tmp_path / "here")
    open_store("step_5")  # which says where the folder is now
    before = everything()
    run_id = put_old()
    (outbox := work_folder("outbox") / run_id).mkdir(parents=True)  # where it kept what was on its way
    (outbox / "1.json").write_text("{}")
    row = results.list_runs(where="step = 5").iloc[0]
    found = row[["run", "data", "folds", "fits", "status", "test_reads"]].tolist()
    assert found == [run_id, "tiny_pets", "1 x 1", 2, "finished", 0]
    said = results.show_run(run_id)
    assert "test ROC AUC" in said and "2 complete" in said and "again:     python step_5/train.py" in said
    archive, content = results.export_runs([run_id], tmp_path / "old.zip"), content_of(run_id)
    (line,) = results.delete_runs([run_id])
    assert line == f"deleted: run {run_id}, with {len(OLD['tree']['runs']) - 1} runs below it"
    assert everything() == before
    new_home(tmp_path / "there")
    results.import_results(archive)
    assert content_of(run_id) == content and results.show_run(run_id).split("\n\n")[1] == said.split("\n\n")[1]
