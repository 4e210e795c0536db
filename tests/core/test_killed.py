"""Killed at any moment, and run again: the same answer, with nothing doubled, lost, or left open."""

import os
import random
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from filelock import FileLock

MOMENTS = 3
ONE_FOLD = ("--root-splits", 1)


@pytest.fixture(scope="module")
def whole(killer):
    """What an uninterrupted run leaves, and how long it takes."""
    return uninterrupted(killer)


@pytest.fixture(scope="module")
def whole_of_one(killer):
    """The same of a run of one outer fold."""
    return uninterrupted(killer, *ONE_FOLD)[0]


def uninterrupted(killer, *flags):
    killer.clean()
    ended = killer.run(*flags)
    assert ended.code == 0, ended.output
    state = killer.state()
    assert (list(state["statuses"]), state["doubled"], state["left"]) == (["FINISHED"], [], [])
    return state, ended.seconds


def go_on_until_the_end(run, killer, whole):
    """Run again what was ended; it must become the uninterrupted run."""
    if [status for _, status in killer.roots()] == ["FINISHED"]:
        return  # it was too late to interrupt it
    again = run()
    assert again.code == 0, again.output
    assert killer.state() == whole


@pytest.mark.slow
@pytest.mark.parametrize("moment", range(MOMENTS))
def test_a_run_that_was_killed_becomes_the_uninterrupted_one(moment, killer, whole):
    state, seconds = whole
    killer.clean(databases=moment > 0)
    when = seconds * (moment + random.Random(moment).random()) / MOMENTS
    killer.run(after=when)
    go_on_until_the_end(killer.run, killer, state)


@pytest.mark.slow
@pytest.mark.parametrize(("n_jobs", "lag"), [(1, 1), (2, 1), (2, 2), (4, 2)])
def test_a_run_that_was_killed_anywhere_from_the_start_of_python_becomes_the_uninterrupted_one(n_jobs, lag, killer):
    flags = ("--n-trials", 3, "--lag", lag)
    killer.clean()
    assert killer.run(*flags).code == 0
    state = killer.state()
    killer.clean()
    seconds = killer.spawn(*flags, "--n-jobs", n_jobs).seconds
    assert killer.state() == state
    for moment in range(10):
        killer.clean(databases=moment > 3)
        when = seconds * (moment + random.Random(moment).random()) / 10
        killer.spawn(*flags, "--n-jobs", n_jobs, after=when)
        go_on_until_the_end(lambda: killer.spawn(*flags, "--n-jobs", n_jobs), killer, state)


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_comes_to_its_end(killer, whole):
    state, seconds = whole
    killer.clean()
    for part in (0.4, 0.3, 0.3, 0.2):
        if "FINISHED" not in dict(killer.roots()).values():
            killer.run(after=seconds * part)
    go_on_until_the_end(killer.run, killer, state)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_a_run_that_was_killed_and_then_interrupted_is_closed_and_goes_on_unless_another_process_is_on_it(
    number, code, killer, whole_of_one
):
    killer.clean(cache=True)
    assert killer.run(*ONE_FOLD, phases=2).code == -signal.SIGKILL
    ended = killer.run(*ONE_FOLD, phases=6, number=number)
    assert ended.code == code
    assert "the same command goes on from here" in ended.output
    statuses = {status for (status,) in killer.query("mlflow.db", "SELECT status FROM runs")}
    assert statuses <= {"FINISHED", "KILLED"} and "KILLED" in statuses
    ((run_id, _),) = killer.roots()
    with FileLock(killer.folder / "cache" / "checkpoints" / f"{run_id}.lock"):  # as another process holds it
        second = killer.run(*ONE_FOLD)
    assert second.code == 2
    assert f"error: run {run_id}: another process is working on it" in second.output
    again = killer.run(*ONE_FOLD)
    assert f"resuming run {run_id}: " in again.output
    assert " of 4 fits done" in again.output
    assert (again.code, killer.state()) == (0, whole_of_one)


@pytest.mark.slow
@pytest.mark.hostile("a process that the system kills costs one line, and the same command goes on")
@pytest.mark.parametrize(
    ("of_server", "roots", "phases"), [(False, 2, 5), (False, 1, 2), (True, 2, 3)], ids=["fit", "only fit", "server"]
)
def test_a_helper_that_the_system_kills_is_one_line_and_the_run_goes_on(of_server, roots, phases, killer, whole):
    state, _ = whole
    killer.clean()
    flags = ("--n-jobs", 2, "--root-splits", roots)
    ended = killer.kill_a_helper(of_server, phases, *flags)
    if of_server:  # it is started again when it is needed
        assert (ended.code, killer.state()) == (0, state), ended.output
        return
    assert ended.code == 137, ended.output
    *_, last = ended.output.strip().splitlines()
    assert last.startswith("error: a process of this run ended in the middle of its work (signal 9), perhaps killed")
    assert "Traceback" not in ended.output and "Warning" not in ended.output
    statuses = {status for (status,) in killer.query("mlflow.db", "SELECT status FROM runs")}
    assert statuses <= {"FINISHED", "KILLED"} and "KILLED" in statuses
    again = killer.spawn(*flags)
    assert again.code == 0 and f"resuming run {killer.roots()[0][0]}: " in again.output, again.output
    results, expected = (found["results"][0].splitlines() for found in (killer.state(), state))
    assert results == expected[: 1 + 2 * roots]
    assert roots == 1 or killer.state() == state


@pytest.mark.slow
def test_ctrl_c_while_the_processes_to_come_still_import_is_one_line(killer):
    killer.clean()
    command = [sys.executable, "step_3/train.py", "--fast", "--data", killer.data, "--n-jobs", "2"]
    log = killer.folder / "log"
    with log.open("w") as file:
        train = subprocess.Popen(
            command,
            cwd=killer.folder,
            env=killer.environment,
            stdout=file,
            stderr=file,
            start_new_session=True,
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # what starts the tests may ignore it
        )
    children = Path(f"/proc/{train.pid}/task/{train.pid}/children")
    while len(started := children.read_text().split()) < 2:  # what keeps count of shared memory, and the server
        time.sleep(0.01)
    time.sleep(0.5)
    os.killpg(train.pid, signal.SIGINT)
    assert train.wait() == 130
    while any(Path(f"/proc/{child}").exists() for child in started):
        time.sleep(0.05)
    assert log.read_text().strip().splitlines()[-1] == "interrupted"
    assert "Traceback" not in log.read_text()


@pytest.mark.slow
def test_a_full_disk_is_an_error_and_the_run_goes_on_when_there_is_room(killer, whole):
    state, _ = whole
    killer.clean()
    killer.run("--n-trials", 1, "--root-splits", 1)  # makes the databases
    size = max((killer.folder / name).stat().st_size for name in ("mlflow.db", "optuna.db"))
    ended = killer.run(limit=size + 20_000)
    assert ended.code == 2, ended.output
    assert "Traceback" not in ended.output
    assert ended.output.strip().splitlines()[-1].startswith("error: ")
    again = killer.run()
    assert again.code == 0, again.output
    assert state["results"][0] in killer.artifacts("results.csv")
    assert {status for _, status in killer.roots()} == {"FINISHED"}


@pytest.mark.slow  # test_tracking.py has the same of runs that train nothing
def test_other_settings_a_finished_run_and_fresh_start_anew_and_what_is_given_up_is_marked_killed(killer):
    killer.clean()
    run = partial(killer.run, "--root-splits", 1, "--inner-splits", 3, step=3)
    run(phases=1)
    ((first, _),) = killer.roots()
    ended = run("--seed", 1)
    assert f"a new run: the unfinished run {first} differs in --seed 1 (was 0)" in ended.output
    after_finished = run("--seed", 1, phases=killer.phases() + 1)
    fresh = run("--seed", 1, "--fresh")
    assert "resuming" not in after_finished.output + fresh.output and fresh.code == 0
    assert [status for _, status in killer.roots()] == ["KILLED", "FINISHED", "KILLED", "FINISHED"]
    assert killer.query("mlflow.db", "SELECT COUNT(*) FROM runs WHERE status = 'RUNNING'") == [(0,)]


@pytest.mark.slow
def test_step_2_goes_on_too(killer):
    killer.clean()
    whole, state = killer.run(step=2), killer.state()
    for part in (0.5, 0.8):
        killer.clean()
        killer.run(step=2, after=whole.seconds * part)
        go_on_until_the_end(partial(killer.run, step=2), killer, state)


def damage(path, where):
    content = bytearray(path.read_bytes())
    if where == "cut":
        del content[len(content) // 2 :]
    else:
        content[int(where * (len(content) - 1))] ^= 1 << 4
    path.write_bytes(content)


@pytest.mark.hostile("a damaged checkpoint or kept network counts as absent, and says so")
@pytest.mark.slow
@pytest.mark.parametrize(("where", "phases"), [(0.7, 8), (0.3, 5), (0.7, 5), ("cut", 5), ("cut", 8)])
def test_a_run_that_goes_on_over_damaged_files_becomes_the_uninterrupted_one(where, phases, killer, whole):
    state, _ = whole
    killer.clean()
    killer.run(phases=phases)
    kept = [path for kind in ("*.pt", "root ?.json") for path in (killer.folder / "cache" / "checkpoints").rglob(kind)]
    assert kept, "those of fits, also of the best trial so far, or the result of the first outer fold in their place"
    for path in kept:
        damage(path, where)
    again = killer.run()
    assert again.code == 0 and "damaged, so it counts as absent" in again.output, again.output
    assert killer.state() == state
