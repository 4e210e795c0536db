"""No password of a tracking server or database of studies is shown, logged or stored."""

import pickle
import subprocess
import sys
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from serving import Gate, Server

from common.cli import UserError, masked
from common.events.broker import plain
from common.search.studies import create_study
from common.tracking.runs import Run

PASSWORD = "s3cret-Pa55"
hostile = pytest.mark.hostile("a password in a URL is shown, logged and stored nowhere")


@hostile
@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("tracking at http://me:pw@host:5000: no answer", "tracking at http://me:***@host:5000: no answer"),
        ("postgresql+psycopg2://me:p@ss/w:o?r#d@host/db", "postgresql+psycopg2://me:***@host/db"),
        ("postgresql://me@azure:pw@host/db", "postgresql://me@azure:***@host/db"),
        ("redis://:1234@host", "redis://:***@host"),
        ("(a http://a:x@h, b mysql://b:y z@h)", "(a http://a:***@h, b mysql://b:***@h)"),
        ("https://ghp_token@github.com/me/it.git", "https://***@github.com/me/it.git"),
        ("--data https:/me:pw@host/x", "--data https:/me:***@host/x"),
        (
            "http://h/x?access_token=t1&n=1&API_KEY=t2&password=p",
            "http://h/x?access_token=***&n=1&API_KEY=***&password=***",
        ),
    ],
)
def test_the_secret_part_of_a_url_is_masked_and_the_rest_is_shown(text, shown):
    assert masked(text) == shown
    error = pickle.loads(pickle.dumps(UserError(text)))
    assert str(error) == str(UserError(masked(text))) == shown
    assert plain({"error": [text]}) == {"error": [shown]}
    assert text not in repr(Run(text, "0", "1"))


@pytest.mark.parametrize(
    "text",
    [
        "tracking at http://127.0.0.1:5000: no model pets@production",
        "sqlite:////a folder/with@sign/mlflow.db?timeout=60",
        "git@github.com:me/it.git, ssh://git@github.com/me/it.git",
        "a.py:3: TrainingConfig.epochs: expected 1 @ least",
    ],
)
def test_what_holds_no_secret_is_shown_as_it_is(text):
    assert masked(text) == text


class Closed(BaseHTTPRequestHandler):
    """Refuses whoever comes, and repeats what was asked for."""

    def answer(self):
        self.send_response(401)
        self.send_header("WWW-Authenticate", "Basic")
        self.end_headers()
        self.wfile.write(b"not allowed")

    do_GET = do_POST = answer

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def refusing():
    with ThreadingHTTPServer(("127.0.0.1", 0), Closed) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def nowhere(project, *dones):
    """No output, and no file that scripts of the project have written, holds the password."""
    outputs = [text for done in dones for text in (done.stdout, done.stderr)]
    assert [text for text in outputs if PASSWORD in text] == []
    files = [path for path in project.rglob("*") if path.is_file() and PASSWORD.encode() in path.read_bytes()]
    assert files == []


@hostile
@pytest.mark.parametrize(
    "script", [pytest.param("step_2/train.py", marks=pytest.mark.slow), "common/production/predict.py"]
)
def test_a_tracking_server_that_does_not_let_in_is_named_without_its_password(
    script, project, run_script, refusing, tiny_pets
):
    arguments = ["--model", "pets", tiny_pets] if "predict" in script else ["--fast", "--data", tiny_pets]
    uri = f"http://bob:{PASSWORD}@{refusing}"
    done = run_script(script, *arguments, MLFLOW_HTTP_REQUEST_MAX_RETRIES="0", MLFLOW_TRACKING_URI=uri)
    told = f"error: tracking at http://bob:***@{refusing}"
    assert done.returncode == 2 and done.stderr.splitlines()[-1].startswith(told)
    nowhere(project, done)


@hostile
def test_a_database_of_studies_that_fails_is_named_without_its_password(tmp_path, monkeypatch):
    monkeypatch.setenv("REPROAI_STATE", str(tmp_path))
    monkeypatch.setenv("OPTUNA_STORAGE", f"postgresql://bob:{PASSWORD}@127.0.0.1:9/db")
    with pytest.raises(
        UserError, match=r"^studies at postgresql://bob:\*\*\*@127\.0\.0\.1:9/db cannot be used"
    ) as error:
        create_study("study", 2)
    assert PASSWORD not in str(error.value)
    nowhere(tmp_path)


@hostile
def test_in_a_notebook_the_error_and_its_causes_hold_no_password(project, tiny_pets):
    code = "from common.tracking import find_run; find_run('step_2')"
    uri = f"http://bob:{PASSWORD}@127.0.0.1:9"
    environment = {"PYTHONPATH": str(project), "MLFLOW_TRACKING_URI": uri, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    command = [sys.executable, "-m", "IPython", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert "tracking at http://bob:***@127.0.0.1:9" in done.stdout + done.stderr
    nowhere(project, done)


@hostile
@pytest.mark.slow
def test_a_run_with_a_model_on_a_server_with_a_password_leaves_it_nowhere(project, run_script, tiny_pets, tmp_path):
    subprocess.run(["git", "init", "-q", project], check=True)
    remote = f"https://bob:{PASSWORD}@127.0.0.1/it.git"
    try:
        with closing(Server(tmp_path)) as server, closing(Gate(server)) as gate:
            uri = gate.uri.replace("://", f"://bob:{PASSWORD}@")
            flags = ["--fast", "--n-jobs", 1, "--n-trials", 1, "--register", "masked", "--data", tiny_pets]
            subprocess.run(["git", "-C", project, "remote", "add", "origin", remote], check=True)
            done = run_script("step_5/train.py", *flags, MLFLOW_TRACKING_URI=uri)
            subprocess.run(["git", "-C", project, "remote", "remove", "origin"], check=True)
            again = run_script("step_5/analyze_predictions.py", MLFLOW_TRACKING_URI=uri)
            assert (done.returncode, again.returncode) == (0, 0), done.stderr + again.stderr
        nowhere(tmp_path, done, again)
        nowhere(project)
    finally:
        (project / ".git").rename(tmp_path / "git")
