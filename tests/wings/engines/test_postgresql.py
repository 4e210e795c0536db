"""The group's server of docker/tracking_server.bash: MLflow with passwords, PostgreSQL, and a search that uses both."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
import searching
from mlflow import MlflowClient
from mlflow.server import get_app_client
from serving import free_port

from common.cli import UserError
from common.search.studies import create_study
from common.tracking.store import open_store
from conftest import PROJECT

SCRIPT = PROJECT / "docker" / "tracking_server.bash"
IS_THERE = any(Path("/usr/lib/postgresql").glob("*/bin/postgres")) or shutil.which("postgres")
MEMBER = "a-members-password"

pytestmark = pytest.mark.skipif(
    not IS_THERE and os.geteuid() != 0, reason="no PostgreSQL here, and only root may install Debian's"
)


class GroupServer:
    """The script in a folder of its own, on free ports, and what a member of the group sets to use it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.ports = ["--port", str(free_port()), "--database-port", str(free_port())]
        self.start()
        self.admin = {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": self.secret("AUTH_ADMIN")}
        self.passwords = folder.with_name("pgpass")
        self.passwords.write_text(f"*:*:*:*:{self.secret('OPTUNA_DB')}")
        self.passwords.chmod(0o600)
        self.member = {"MLFLOW_TRACKING_USERNAME": "ann", "MLFLOW_TRACKING_PASSWORD": MEMBER}
        self.member |= self.addresses | {"PGPASSFILE": str(self.passwords)}

    def start(self) -> None:
        self.process = call(self.folder, *self.ports)
        said = [self.process.stdout.readline() for _ in range(3)]
        if not said[0]:
            error = self.process.communicate()[1]
            (pytest.skip if "could not be installed" in error else pytest.fail)(error)
        assert said[0].startswith("ready: ")
        self.addresses = dict(line.removeprefix("export ").strip().split("=", 1) for line in said[1:])

    def end(self, number: signal.Signals) -> tuple[int, str]:
        """Send the script a signal; gives its exit code and what it said."""
        self.process.send_signal(number)
        said = "".join(self.process.communicate(timeout=60))
        return self.process.returncode, said

    def secret(self, name: str) -> str:
        return re.search(rf"^\w*{name}_PASSWORD=(\w+)$", (self.folder / "server.env").read_text(), re.MULTILINE)[1]


def call(*arguments: str | Path, **variables: str) -> subprocess.Popen[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "OPTUNA_", "PG"))}
    own = {"RUNNER": "none", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return subprocess.Popen(
        ["bash", SCRIPT, *map(str, arguments)],
        env=kept | own | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


@pytest.fixture(scope="module")
def open_folder() -> Iterator[Path]:
    """A folder that the user postgres may enter, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


@pytest.fixture(scope="module")
def server(open_folder: Path) -> Iterator[GroupServer]:
    """A server with a member, to whom the experiment of step 4 does not belong."""
    server = GroupServer(open_folder / "the server")
    uri = server.addresses["MLFLOW_TRACKING_URI"]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.admin.items():
            patch.setenv(name, value)
        get_app_client("basic-auth", uri).create_user("ann", MEMBER)
        MlflowClient(uri).create_experiment("step_4")
    yield server
    server.end(signal.SIGTERM)


@pytest.fixture
def as_member(server: GroupServer, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    for name, value in server.member.items():
        monkeypatch.setenv(name, value)
    return MlflowClient(server.member["MLFLOW_TRACKING_URI"])


def nowhere(server: GroupServer, *places: Path | str) -> None:
    """None of the passwords is in any of these texts, or files of these folders."""
    words = [MEMBER, *(server.secret(name) for name in ("AUTH_ADMIN", "MLFLOW_DB", "OPTUNA_DB"))]
    files = [path for place in places if isinstance(place, Path) for path in place.rglob("*") if path.is_file()]
    texts = [place.encode() for place in places if isinstance(place, str)] + [path.read_bytes() for path in files]
    assert not any(word.encode() in text for word in words for text in texts)


@pytest.mark.slow
def test_a_search_gives_the_same_results_there_and_keeps_all_of_them_there(
    server, as_member, run_script, few_pets, tmp_path
) -> None:
    other_start = call(server.folder, *server.ports)
    flags = [
        "--fast",
        "--data",
        few_pets,
        "--n-jobs",
        1,
        "--root-splits",
        1,
        "--inner-splits",
        1,
        "--n-trials",
        1,
        "--json",
    ]
    own = run_script("step_4/train.py", *flags, REPROAI_STATE=str(tmp_path / "own"))
    done = run_script("step_4/train.py", *flags, REPROAI_STATE=str(tmp_path / "state"), **server.member)
    assert (own.returncode, done.returncode) == (0, 0), done.stderr
    run_id = json.loads(done.stdout.splitlines()[-1])["run_id"]
    there = Path(as_member.download_artifacts(run_id, "results.csv", str(tmp_path)))
    (here,) = (tmp_path / "own" / "mlruns").rglob("results.csv")
    assert there.read_bytes() == here.read_bytes() and here.read_text().count("\n") > 1
    assert as_member.get_run(run_id).info.status == "FINISHED"
    (study,) = optuna.get_all_study_summaries(server.member["OPTUNA_STORAGE"])
    assert study.n_trials == 1
    assert not [path for name in ("*.db", "mlruns") for path in (tmp_path / "state").rglob(name)]

    commands = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    logs = "".join(path.read_text() for path in server.folder.glob("*.log"))
    nowhere(server, tmp_path, server.folder / "artifacts", done.stdout + done.stderr, commands, logs)
    assert (server.folder / "server.env").stat().st_mode & 0o777 == 0o600
    assert ended(other_start) == f"error: {server.folder}: its server is running, or it cannot be written"


@pytest.mark.slow
def test_who_has_no_password_or_a_wrong_one_gets_one_line(server, run_script, few_pets, tmp_path, monkeypatch) -> None:
    wrong = tmp_path / "pgpass"
    wrong.write_text("*:*:*:*:not-the-right-one")
    wrong.chmod(0o600)
    tracking, storage = server.addresses.values()
    monkeypatch.setenv("REPROAI_STATE", str(tmp_path / "state"))
    none = {"MLFLOW_TRACKING_USERNAME": "", "MLFLOW_TRACKING_PASSWORD": ""}
    for use, changed, told in [
        (lambda: open_store("step_4"), none, f"tracking at {tracking} cannot be used: "),
        (lambda: create_study("study", 2), {"PGPASSFILE": str(wrong)}, f"studies at {storage} cannot be used: "),
        (lambda: create_study("study", 2), {"PGPASSFILE": str(tmp_path)}, f"studies at {storage} cannot be used: "),
        (
            lambda: create_study("study", 2),
            {"OPTUNA_STORAGE": storage.replace("/optuna", "/mlflow")},  # not a member's
            "studies at ",
        ),
    ]:
        for name, value in (server.member | changed).items():
            monkeypatch.setenv(name, value)
        with pytest.raises(UserError) as error:
            use()
        said = str(error.value)
        assert said.startswith(told) and "\n" not in said and "not-the-right-one" not in said
        nowhere(server, said)
    variables = server.member | {"MLFLOW_TRACKING_PASSWORD": "not-the-right-one"}
    done = run_script("step_4/train.py", "--fast", "--n-jobs", 1, "--data", few_pets, **variables)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "error" in line]
    assert line.startswith(f"error: tracking at {tracking} cannot be used: ")
    nowhere(server, done.stdout + done.stderr)
    assert "not-the-right-one" not in done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_it_can_be_ended_and_started_again_in_the_middle_of_a_study(server, as_member, number) -> None:
    experiment = as_member.create_experiment(number.name)
    run = as_member.create_run(experiment).info.run_id
    as_member.log_text(run, "kept", "note.txt")
    study = create_study(number.name, 2)
    study.tell(study.ask(), 0.5)
    assert server.end(number) == (-9 if number == signal.SIGKILL else 0, "")
    server.start()
    study.tell(study.ask(), 0.75)
    assert [trial.value for trial in study.trials] == [0.5, 0.75]
    (mine,) = as_member.search_runs([experiment])
    assert mine.info.run_id == run
    assert [file.path for file in as_member.list_artifacts(run)] == ["note.txt"]


def ended(process: subprocess.Popen[str]) -> str:
    """The one line in which a start was refused."""
    said, error = process.communicate(timeout=60)
    assert (process.returncode, said, error.count("\n")) == (2, "", 1), error
    return error.strip()


def test_what_cannot_be_started_is_refused_in_one_line(open_folder, tmp_path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").touch()
    (tmp_path / "photos" / "a folder").mkdir()
    for name, text, mode in [("seen", "", 0o644), ("short", "MLFLOW_DB_PASSWORD=abc", 0o600), ("odd", "abc", 0o600)]:
        (open_folder / name).mkdir()
        (open_folder / name / "server.env").write_text(text)
        (open_folder / name / "server.env").chmod(mode)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for arguments, told in [
            ([], "expected a folder"),
            (["new", "--prot", "1"], "unknown flag --prot"),
            (["new", "--port", "65536"], "--port is '65536': expected a whole number from 1 to 65535"),
            (["new", "--host", "no such host"], "--host 'no such host': expected a name or an address"),
            (["new", "--database-port", port], f"port {port} is taken"),
            ([tmp_path / "photos"], "photos: neither empty nor a folder of this server"),
            ([open_folder / "seen"], "server.env: not its owner's alone: 'chmod 600' it"),
            ([open_folder / "short"], "server.env: MLFLOW_AUTH_ADMIN_PASSWORD is not 12 or more letters"),
            ([open_folder / "odd"], "server.env: a line that docker/server.env.template does not have"),
        ]:
            free = [] if "--port" in arguments else ["--port", str(free_port())]
            free += [] if "--database-port" in arguments else ["--database-port", str(free_port())]
            assert told in ended(call(*arguments, *(free if arguments else [])))
    assert not Path("new").exists()


def test_where_postgresql_is_missing_root_installs_it_and_others_are_told_whom_to_ask(open_folder) -> None:
    project = open_folder / "project"
    (project / "docker").mkdir(parents=True)
    text = SCRIPT.read_text().replace("/usr/lib/postgresql", "/nowhere")
    (project / "docker" / "tracking_server.bash").write_text(text)
    apt = project / "apt-get"
    apt.write_text(
        '#!/bin/sh\necho "$*" >>"$(dirname "$0")/asked"; [ "$1" = update ] || { echo "E: no" >&2; exit 1; }\n'
    )
    apt.chmod(0o755)
    command = ["bash", project / "docker" / "tracking_server.bash", open_folder / "new", "--port", str(free_port())]
    command += ["--database-port", str(free_port())]
    how = {"env": {"PATH": f"{project}:/usr/bin:/bin"}, "capture_output": True, "text": True}
    if os.geteuid() == 0:
        done = subprocess.run(command, **how)
        reason = "error: postgresql could not be installed, for the reason above"
        assert (done.returncode, done.stderr.splitlines()) == (2, ["installing postgresql", "E: no", reason])
        asked = (project / "asked").read_text().splitlines()
        assert asked == ["update", "install --yes --no-install-recommends postgresql"]
        how["user"] = 65534
    done = subprocess.run(command, **how)
    told = "error: no PostgreSQL here: ask for 'apt install postgresql'\n"
    assert (done.returncode, done.stderr) == (2, told)
    assert not (open_folder / "new").exists()


@pytest.mark.slow
def test_trials_side_by_side_are_in_postgresql_what_they_are_in_sqlite(as_member, tmp_path, monkeypatch):
    monkeypatch.setenv("REPROAI_STATE", str(tmp_path))
    found = [searching.side_by_side(n_jobs, lag=3) for n_jobs in (1, 2, 8)]
    monkeypatch.delenv("OPTUNA_STORAGE")
    assert found == 3 * [searching.side_by_side(1, lag=3)]
