"""A tracking server that fails in the middle of a run costs no metric and no result, and doubles none."""

import threading
import time
from contextlib import closing, contextmanager
from functools import partial

import pytest
from serving import Gate, Server

QUICK = {"MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1", "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER": "0"}
IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}


@pytest.fixture(scope="module")
def whole(undisturbed):
    """What an undisturbed run of step 3 leaves in the project's own store."""
    return undisturbed(3)


@pytest.fixture
def server(killer, whole):
    killer.clean(cache=True)
    server = Server(killer.folder)
    yield server
    server.kill()


@contextmanager
def after(killer, phases, disturb):
    """Do something, in the middle of what the block runs."""
    thread = threading.Thread(target=lambda: (killer.wait_for(phases), disturb()))
    thread.start()
    yield
    thread.join()


@pytest.mark.slow
def test_a_server_that_is_killed_and_comes_back_costs_nothing_and_answers_that_are_lost_double_nothing(
    killer, whole, server
):
    def disturb():
        server.kill()
        server.start()

    with closing(Gate(server, lossy=True)) as gate, after(killer, 3, disturb):
        ended = killer.run(step=3, MLFLOW_TRACKING_URI=gate.uri, **QUICK)
    assert ended.code == 0, ended.output
    writing = {"experiments/create", "runs/create", "runs/update", "runs/log-batch"}
    assert {f"POST mlflow/{name}" for name in writing} | {"PUT mlflow-artifacts"} <= set(gate.lost)
    assert killer.state() == whole


@pytest.mark.slow
def test_runs_that_were_doubled_and_may_not_be_deleted_are_closed_and_never_taken_up(killer, whole, server):
    with closing(Gate(server, lossy=True, forbidden="runs/delete")) as gate:
        ended = killer.run(step=3, MLFLOW_TRACKING_URI=gate.uri, **QUICK)
    assert ended.code == 0, ended.output
    found = killer.state()
    assert found["statuses"].pop("KILLED") > 1
    assert found == whole
    killed = "SELECT run_uuid FROM runs WHERE status = 'KILLED'"
    names = killer.query("mlflow.db", f"SELECT value FROM tags WHERE key = 'fingerprint' AND run_uuid IN ({killed})")
    assert set(names) == {("double",)}


@pytest.mark.slow
def test_a_run_of_another_folder_on_the_server_is_neither_taken_up_nor_closed(killer, server, tmp_path):
    run = partial(killer.run, "--root-splits", 1, "--inner-splits", 1, step=3, MLFLOW_TRACKING_URI=server.uri)
    assert run(phases=1).code < 0
    ((first, _),) = killer.roots()
    other = run(REPROAI_STATE=str(tmp_path))
    assert other.code == 0 and "resuming" not in other.output
    assert dict(killer.roots())[first] == "RUNNING"
    again = run()
    assert again.code == 0 and f"resuming run {first}" in again.output
    assert [status for _, status in killer.roots()] == ["FINISHED", "FINISHED"]


@pytest.mark.slow
def test_a_server_that_stays_away_ends_the_run_in_one_line_and_the_same_command_goes_on(killer, whole, server):
    with closing(Gate(server)) as gate:
        with after(killer, 3, lambda: setattr(gate, "shut", True)):
            ended = killer.run(step=3, MLFLOW_TRACKING_URI=gate.uri, **QUICK, **IMPATIENT)
        assert ended.code == 2, ended.output
        assert "Traceback" not in ended.output
        error = ended.output.strip().splitlines()[-1]
        assert error.startswith(f"error: tracking at {gate.uri}: ")
        assert error.endswith("; the same command goes on when it is back")
        assert gate.refused <= 4  # the call that was under way and the outbox's, each tried twice; nothing after them
        gate.shut = False
        again = killer.run(step=3, MLFLOW_TRACKING_URI=gate.uri, **QUICK)
    assert "resuming run" in again.output
    assert again.code == 0, again.output
    assert killer.state() == whole


@pytest.mark.slow
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_server_that_is_gone_for_longer_than_a_minute_costs_nothing(n_jobs, killer, whole, server):
    def disturb():
        server.kill()
        time.sleep(75)
        server.start()

    with after(killer, 3, disturb):
        ended = killer.spawn("--n-jobs", n_jobs, step=3, MLFLOW_TRACKING_URI=server.uri)
    assert ended.code == 0, ended.output
    assert killer.state() == whole
