"""Tracking server, trainer and model server: docker/compose.yml, and its processes without Docker."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient
from mlflow.cli import cli as mlflow
from serving import free_port, predictions

from conftest import PROJECT

COMPOSE = PROJECT / "docker" / "compose.yml"
TEMPLATE = PROJECT / "docker" / "model.env.template"
TABLE = yaml.safe_load(COMPOSE.read_text())
SERVICES = TABLE["services"]
VARIABLE = re.compile(r"\$\$|\$\{(?P<name>\w+):\?(?P<told>[^}]+)\}|(?P<other>\$)")


PROPERTIES = {"image", "build", "init", "restart", "user", "working_dir", "runtime", "ipc", "environment", "depends_on"}
PROPERTIES |= {"command", "volumes", "ports", "healthcheck", "stop_grace_period"}
"""Those of the published schema (compose-spec) that are used here."""


def template() -> dict[str, str]:
    lines = [line for line in TEMPLATE.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def filled_in(part, variables: dict[str, str]):
    """A part of the file with its variables' values, as compose fills them in."""
    if isinstance(part, dict):
        return {name: filled_in(value, variables) for name, value in part.items()}
    if isinstance(part, list):
        return [filled_in(value, variables) for value in part]
    if isinstance(part, str):
        return VARIABLE.sub(lambda found: "$" if found[0] == "$$" else variables[found["name"]], part)
    return part


def test_its_services_have_known_properties_and_what_they_name_is_there() -> None:
    assert set(TABLE) - {"name", "services", "volumes"} == {name for name in TABLE if name.startswith("x-")}
    assert set(SERVICES) == {"tracking", "trainer", "model"}
    for service in SERVICES.values():
        assert set(service) <= PROPERTIES
        assert (COMPOSE.parent / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
        assert service["image"] == "reproai" and service["restart"] == "unless-stopped"
        for other, how in service.get("depends_on", {}).items():
            assert how["condition"] == "service_healthy" and "healthcheck" in SERVICES[other]
        for volume in service.get("volumes", []):
            assert isinstance(volume, dict) or volume.split(":")[0] in TABLE["volumes"]


def test_every_port_is_published_to_this_machine_alone() -> None:
    ports = [port for service in SERVICES.values() for port in filled_in(service.get("ports", []), template())]
    assert ports == ["127.0.0.1:5000:5000", "127.0.0.1:5001:5001"]


def test_every_variable_is_in_the_template_and_the_error_about_a_missing_one_names_it() -> None:
    found = list(VARIABLE.finditer(yaml.safe_dump(TABLE, width=10_000)))
    assert {match["name"] for match in found} - {None} == set(template())
    for match in found:
        assert match["other"] is None, "a variable without an error message"
        assert match[0] == "$$" or match["told"] == "see docker/model.env.template"
    ignored = (PROJECT / ".gitignore").read_text().splitlines()
    assert "/docker/model.env" in ignored


def test_compose_itself_reads_it_and_names_a_missing_variable(tmp_path: Path) -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True).returncode:
        pytest.skip("no docker compose on this machine")
    files = ["--env-file", tmp_path / "model.env", "--file", COMPOSE]
    kept = {name: value for name, value in os.environ.items() if name not in template()}

    def read(lines: list[str]) -> subprocess.CompletedProcess:
        (tmp_path / "model.env").write_text("\n".join(lines))
        command = [docker, "compose", *files, "config", "--format", "json"]
        return subprocess.run(command, capture_output=True, text=True, env=kept)

    lines = [f"{name}={value}" for name, value in template().items()]
    done = read(lines)
    assert done.returncode == 0, done.stderr
    read_services = json.loads(done.stdout)["services"]
    for name, service in filled_in(SERVICES, template()).items():
        assert [word.replace("$$", "$") for word in read_services[name]["command"]] == service["command"]
    for line in lines:
        done = read([other for other in lines if other != line])
        assert done.returncode != 0 and f"required variable {line.split('=')[0]} is missing" in done.stderr


def test_the_servers_commands_are_well_formed() -> None:
    tracking, model = (arguments(filled_in(SERVICES[name]["command"], template())) for name in ("tracking", "model"))
    assert tracking["host"] == model["host"] == "0.0.0.0"  # of the container, which publishes to 127.0.0.1
    assert (tracking["port"], model["port"]) == (5000, 5001)
    assert (model["model_uri"], model["env_manager"]) == ("models:/pets@production", "local")


def arguments(command: list[str]) -> dict:
    """What MLflow reads from a command line, an unknown flag being an error."""
    words, parsed = command[1:], mlflow
    while hasattr(parsed, "commands"):
        parsed = parsed.commands[words.pop(0)]
    return parsed.make_context(parsed.name, words).params


# ---- the same processes without Docker


class Processes:
    """The services' commands as processes of this machine: other ports, and a folder in place of the volume."""

    def __init__(self, folder: Path, **variables: str):
        ports = {name: str(free_port()) for name in ("TRACKING_PORT", "MODEL_PORT")}
        self.variables = template() | ports | variables
        self.folder = folder
        self.uri = self.here(SERVICES["trainer"]["environment"]["MLFLOW_TRACKING_URI"])

    def here(self, part):
        """A part of the file, filled in for this machine."""
        text = json.dumps(filled_in(part, self.variables)).replace("/home/reproai", str(self.folder))
        return json.loads(text.replace("0.0.0.0", "127.0.0.1").replace("//tracking:", "//127.0.0.1:"))

    def environment(self, name: str) -> dict[str, str]:
        ours = ("MLFLOW_", "OPTUNA_", "PYTHONPATH", "DATA")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return kept | self.here(SERVICES[name].get("environment", {})) | {"PATH": path}

    @contextmanager
    def start(self, name: str):
        """A service's process; its output is kept in a file of its name."""
        service = self.here(SERVICES[name])
        how = {"cwd": service["working_dir"], "env": self.environment(name), "start_new_session": True}
        with (self.folder / name).open("w") as log:
            process = subprocess.Popen(service["command"], stdout=log, stderr=log, **how)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(timeout=60)

    def wait_for(self, name: str, process: subprocess.Popen, condition) -> None:
        end = time.monotonic() + 600
        while not condition():
            assert process.poll() is None and time.monotonic() < end, (self.folder / name).read_text()
            time.sleep(0.5)

    def is_healthy(self, name: str) -> bool:
        """What the service's health check finds."""
        _, *words = self.here(SERVICES[name]["healthcheck"]["test"])
        return subprocess.run(words, env=self.environment(name), capture_output=True).returncode == 0


def status_for(services: Processes, host: str) -> int:
    """What the tracking server answers to whoever knows it by this name."""
    port = services.variables["TRACKING_PORT"]
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    path = "/api/2.0/mlflow/experiments/get?experiment_id=0"
    connection.request("GET", path, headers={"Host": f"{host}:{port}"})
    return connection.getresponse().status


@pytest.mark.slow
def test_the_processes_without_docker_train_register_and_serve(project, tiny_pets, tmp_path) -> None:
    train = "step_4/train.py --fast --n-trials 1 --root-splits 1 --image-size 32 --precision fp32"
    services = Processes(tmp_path, PROJECT_PATH=str(project), DATA_PATH=str(tiny_pets), TRAIN=train)
    with services.start("tracking") as tracking:
        services.wait_for("tracking", tracking, lambda: services.is_healthy("tracking"))
        assert [status_for(services, host) for host in ("tracking", "elsewhere")] == [200, 403]
        with services.start("trainer") as trainer:
            n_files = sum(path.is_file() for path in tiny_pets.rglob("*"))
            idle = re.compile(rf"^watching .*: data version (\w+), {n_files} files: run (\w+)$", re.MULTILINE)
            services.wait_for("trainer", trainer, lambda: idle.search((tmp_path / "trainer").read_text()))
            trainer.send_signal(signal.SIGTERM)
            assert trainer.wait(timeout=60) == 143
        _, run_id = idle.search((tmp_path / "trainer").read_text()).groups()
        client = MlflowClient(services.uri)
        run = client.get_run(run_id)
        assert (run.info.status, run.data.tags["run_level"]) == ("FINISHED", "root")
        assert run.info.artifact_uri.startswith("mlflow-artifacts:/")
        assert "predictions.csv" in [file.path for file in client.list_artifacts(run_id)]
        with services.start("model") as model:
            services.wait_for("model", model, lambda: services.is_healthy("model"))
            photo = next((tiny_pets / "images").iterdir()).read_bytes()
            (answer,) = predictions(f"http://127.0.0.1:{services.variables['MODEL_PORT']}", [photo])
        assert answer["prediction"] in ("cat", "dog")
        assert answer["probability_cat"] + answer["probability_dog"] == pytest.approx(1)
    assert (tmp_path / "mlflow.db").is_file() and any((tmp_path / "artifacts").rglob("predictions.csv"))
