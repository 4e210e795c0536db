"""A scheduler that takes nobody without a certificate, and workers of two kinds behind it."""

import json
import os
import shutil
import socket
import subprocess
import sys

import pytest
from mlflow import MlflowClient
from slurm_cluster import free_ports

pytest.importorskip("distributed")
from distributed import Client, Security

TLS = "DASK_DISTRIBUTED__COMM__TLS__"
ON_WORKER = """
import os, sys
from common.engines.remote import on_worker
print(os.getpid(), on_worker(sys.argv[1], os.getpid))
"""
QUICK = ("--fast", "--root-splits", 1, "--device", "cpu", "--precision", "fp32", "--json")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """Variables that name a certificate which vouches for itself: the group's, and that of another group."""
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    found = []
    for name in ("ours", "theirs"):
        folder = tmp_path_factory.mktemp(name)
        make = f"openssl req -x509 -newkey rsa:2048 -nodes -days 365 -subj /CN={name} -keyout key.pem -out cert.pem"
        subprocess.run(make.split(), cwd=folder, check=True, capture_output=True)
        of_roles = {
            f"{TLS}{role}__{what}": str(folder / f"{what.lower()}.pem")
            for role in ("SCHEDULER", "WORKER", "CLIENT")
            for what in ("CERT", "KEY")
        }
        found.append({f"{TLS}CA_FILE": str(folder / "cert.pem"), **of_roles})
    return found


@pytest.fixture(scope="module")
def address(certificates, project):
    """Of a scheduler with two workers; the processor of one is taken for an old one."""
    (port,) = free_ports(1)
    address = f"tls://127.0.0.1:{port}"
    environment = {**os.environ, **certificates[0], "PYTHONPATH": str(project)}

    def start(what, *words, **variables):
        command = [sys.executable, "-m", f"distributed.cli.dask_{what}", *words, "--no-dashboard"]
        return subprocess.Popen(command, cwd=project, env=environment | variables, stderr=subprocess.DEVNULL)

    worker = (address, "--nthreads", "1", "--no-nanny", "--host", "tls://127.0.0.1")
    started = [
        start("scheduler", "--protocol", "tls", "--host", "127.0.0.1", "--port", str(port)),
        start("worker", *worker),
        start("worker", *worker, ATEN_CPU_CAPABILITY="default"),
    ]
    dask = {"tls_ca_file": "CA_FILE", "tls_client_cert": "CLIENT__CERT", "tls_client_key": "CLIENT__KEY"}
    security = Security(**{name: certificates[0][f"{TLS}{variable}"] for name, variable in dask.items()})
    with Client(address, security=security, timeout=60, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=60)
    yield address
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_with_the_groups_certificate_fits_run_and_on_two_kinds_of_machines_only_if_that_is_asked_for(
    address, certificates, run_script, few_pets, project
):
    step = ("step_3/train.py", "--data", few_pets, *QUICK, "--engine", address)
    refused = run_script(*step, **certificates[0])
    line = refused.stderr.strip().splitlines()[-1]
    assert refused.returncode == 2 and "Traceback" not in refused.stderr, refused.stderr
    assert line.startswith(f"error: {socket.gethostname()}: ") and line.endswith("; --mixed-machines allows it"), line
    mixed = run_script(*step, "--mixed-machines", **certificates[0])
    assert mixed.returncode == 0, mixed.stderr
    client = MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    root = client.get_run(json.loads(mixed.stdout.splitlines()[-1])["run_id"])
    assert root.data.params["deterministic"] == "False"
    assert json.loads(root.data.tags["identity"])["machine"] == "mixed machines, fp32"
    of_folds = f"tags.root_run_id = '{root.info.run_id}' and tags.run_level = 'fold'"
    folds = [run.data.tags for run in client.search_runs([root.info.experiment_id], of_folds)]
    assert len(folds) == 2 and {tags["host"] for tags in folds} == {socket.gethostname()}
    expected, _, found = line.partition("; expected ")[::-1]
    kinds = {found.removeprefix(f"error: {socket.gethostname()}: "), expected.rpartition(", as fits began on")[0]}
    assert len(kinds) == 2 and {tags["machine"] for tags in folds} == kinds


@pytest.mark.slow
def test_with_the_groups_certificate_a_call_goes_to_a_worker(address, certificates, project):
    command = [sys.executable, "-c", ON_WORKER, address]
    here, there = subprocess.check_output(
        command, cwd=project, env={**os.environ, **certificates[0]}, text=True
    ).split()
    assert int(here) != int(there)


EXPECTED = f"expected {TLS}CA_FILE, __CLIENT__CERT and __CLIENT__KEY, see docs/cluster.md"
WHO = {
    "none": (lambda ours, theirs: {}, "certificate: not there; ", EXPECTED),
    "theirs": (lambda ours, theirs: theirs, "no Dask scheduler answers (", "certificate does not match"),
    "mixed": (
        lambda ours, theirs: ours | {name: value for name, value in theirs.items() if "CLIENT" in name},
        "no Dask scheduler answers (",
        "",
    ),
    "no key": (lambda ours, theirs: ours | {f"{TLS}CLIENT__KEY": "/nowhere/key.pem"}, "certificate: ", EXPECTED),
    "no TLS": (lambda ours, theirs: {}, "no Dask scheduler answers (", ""),
}


@pytest.mark.parametrize("who", ["theirs", *(pytest.param(w, marks=pytest.mark.slow) for w in WHO if w != "theirs")])
def test_who_has_no_certificate_or_that_of_others_is_refused_in_one_line(
    who, address, certificates, run_script, tiny_pets
):
    variables, begin, end = WHO[who]
    at = address.replace("tls", "tcp") if who == "no TLS" else address
    done = run_script("step_3/train.py", "--data", tiny_pets, *QUICK, "--engine", at, **variables(*certificates))
    (line,) = done.stderr.strip().splitlines()
    assert done.returncode == 2 and line.startswith(f"error: --engine {at}: {begin}") and end in line, line
