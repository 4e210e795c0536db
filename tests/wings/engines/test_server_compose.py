"""The group's server in containers: docker/server_compose.yml, and its processes without Docker."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import optuna
import pytest
import yaml
from mlflow import MlflowClient
from mlflow.cli import cli as mlflow
from mlflow.exceptions import MlflowException
from serving import free_port, wait_for
from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError

from conftest import PROJECT

COMPOSE = PROJECT / "docker" / "server_compose.yml"
TEMPLATE = PROJECT / "docker" / "server.env.template"
POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
VALUES = {name: f"{name.lower().replace('_', '-')}-0123" for name in re.findall(r"(?m)^(\w+)=", TEMPLATE.read_text())}


def filled_in(**here: str) -> dict:
    """The file with its variables' values, as compose fills them in, and with folders of this machine."""
    text = COMPOSE.read_text()
    assert set(re.findall(r"\$\{(\w+):\?see docker/server.env.template\}", text)) == set(VALUES)
    text = re.sub(r"\$\{(\w+):\?[^}]*\}", lambda found: VALUES[found[1]], text)
    text = re.sub(r"\$\{(ADDRESS|NAME):-([\w.]+)\}", r"\2", text)
    assert "$" not in text
    for there, path in here.items():
        text = text.replace(there, path)
    return yaml.safe_load(text)


def test_only_this_machine_reaches_them_unless_told_and_mlflow_waits_for_the_database() -> None:
    table = filled_in()
    database, tracking = table["services"]["database"], table["services"]["tracking"]
    assert database["ports"] + tracking["ports"] == ["127.0.0.1:5433:5432", "127.0.0.1:5000:5000"]
    assert tracking["depends_on"] == {"database": {"condition": "service_healthy"}} and "healthcheck" in database
    assert (COMPOSE.parent / table["configs"]["basic_auth"]["file"]).is_file()
    assert {volume.split(":")[0] for s in (database, tracking) for volume in s["volumes"]} == set(table["volumes"])
    assert "/docker/server.env" in (PROJECT / ".gitignore").read_text().splitlines()
    words = [*tracking["command"][2:], "--backend-store-uri=sqlite://"]  # an unknown flag is an error
    assert mlflow.commands["server"].make_context("server", words).params["app_name"] == "basic-auth"


@pytest.mark.slow
@pytest.mark.skipif(not POSTGRES, reason="no PostgreSQL here")
def test_their_processes_let_in_whom_the_passwords_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    database_port, web_port = str(free_port()), free_port()
    owner = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"] if os.geteuid() == 0 else []
    processes = []
    with tempfile.TemporaryDirectory() as folder:  # which, other than pytest's, the user postgres may enter
        Path(folder).chmod(0o711)
        data = Path(folder) / "database"
        data.mkdir()
        if owner:
            shutil.chown(data, "postgres", "postgres")
        table = filled_in(**{"/home/reproai": folder})
        postgres = [*owner, POSTGRES[-1]]
        subprocess.run([*owner, POSTGRES[-1].with_name("initdb"), "-D", data, "--auth=reject"], check=True)
        (data / "pg_hba.conf").write_text("host all all all scram-sha-256\n")  # as the image's
        single = [*postgres, "--single", "-D", data, "-c", "exit_on_error=true", "postgres"]
        subprocess.run(single, input=table["configs"]["databases"]["content"], text=True, check=True)
        options = ["-c", f"port={database_port}", "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
        service = table["services"]["tracking"]
        ini = COMPOSE.parent / table["configs"]["basic_auth"]["file"]
        own = {"PGHOST": "127.0.0.1", "PGPORT": database_port, "MLFLOW_AUTH_CONFIG_PATH": str(ini)}
        own["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        command = [word.replace("0.0.0.0", "127.0.0.1").replace("5000", str(web_port)) for word in service["command"]]
        try:
            processes.append(subprocess.Popen([*postgres, "-D", data, *options]))
            wait_until_it_listens(int(database_port))
            processes.append(subprocess.Popen(command, cwd=folder, env=os.environ | service["environment"] | own))
            wait_for(web_port, processes[-1])
            client = MlflowClient(f"http://127.0.0.1:{web_port}")
            monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", VALUES["MLFLOW_AUTH_ADMIN_USERNAME"])
            monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "not-the-right-one")
            with pytest.raises(MlflowException, match="not authenticated"):
                client.create_experiment("any")
            monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", VALUES["MLFLOW_AUTH_ADMIN_PASSWORD"])
            assert client.create_experiment("any")
            monkeypatch.setenv("PGPASSWORD", VALUES["OPTUNA_DB_PASSWORD"])
            url = f"postgresql://optuna@127.0.0.1:{database_port}"
            assert optuna.get_all_study_names(f"{url}/optuna") == []
            with pytest.raises(OperationalError, match='permission denied for database "mlflow"'):
                create_engine(f"{url}/mlflow").connect()
        finally:
            for process in reversed(processes):
                process.send_signal(signal.SIGINT)
                process.wait(timeout=60)


def wait_until_it_listens(port: int) -> None:
    end = time.monotonic() + 60
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            assert time.monotonic() < end, "PostgreSQL does not listen"
            time.sleep(0.1)
