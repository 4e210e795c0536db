"""The retraining trigger runs its command once per change of the data, whatever happens to it."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from common.cli import UserError
from common.production import contents as watched, watch
from common.production.contents import Contents
from conftest import PROJECT, copy_code

# What is run: it notes the data version, goes on while `hold` is there, and ends with the exit code in `code`.
COMMAND = """cd "$1" || exit
echo "$DATA_VERSION" >>started
n=$(wc -l <started)
while [ -e hold ]; do sleep 0.02; done
echo "a line before"
echo "{\\"run_id\\": \\"run $((n))\\"}"
exit "$(cat code 2>/dev/null || echo 0)"
"""
# A watcher each of whose sleeps is reported, and ends when the test says so.
STEPPED = """
import os, runpy, sys, time

def sleep(seconds):
    os.write(int(os.environ["REPORT"]), f"{seconds}\\n".encode())
    if not os.read(0, 1):
        os._exit(1)

time.sleep = sleep
runpy.run_module("common.production.watch", run_name="__main__", alter_sys=True)
"""
KINDS = {"3.0": "settle", "7.0": "interval", "0.1": "run"}


class Scene:
    """A folder of data, a command that watches it, and what came of it."""

    def __init__(self, folder: Path, project: Path):
        self.folder, self.project, self.data = folder, project, folder / "data"
        self.data.mkdir(parents=True)
        (folder / "command.sh").write_text(COMMAND)
        self.command = ["sh", str(folder / "command.sh"), str(folder)]

    def words(self, *flags, settle=3, interval=7):
        times = ["--settle", str(settle), "--interval", str(interval)]
        return ["--data", str(self.data), *times, *map(str, flags), "--", *self.command]

    def popen(self, *command, **options):
        kept = {k: v for k, v in os.environ.items() if k != "DATA_VERSION"}
        env = {**kept, "PYTHONPATH": str(self.project)} | options.pop("env", {})
        return subprocess.Popen([sys.executable, *command], cwd=self.folder, env=env, text=True, **options)

    def watch(self, *flags, **times):
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return self.popen("-m", "common.production.watch", *self.words(*flags, **times), **pipes)

    def once(self, *flags):
        process = self.watch("--once", *flags, settle=0)
        output, errors = process.communicate(timeout=60)
        return process.returncode, output, errors

    def started(self):
        """The data versions that the command was started on."""
        path = self.folder / "started"
        return path.read_text().split() if path.exists() else []

    def record(self):
        """The watcher's file about this scene, if there is one."""
        files = (self.project / "cache" / "watch").glob("*.json")
        return next((path for path in files if self.command[1] in path.read_text()), None)

    def runs(self):
        """(data version, outcome, exit code) of the recorded runs."""
        runs = json.loads(self.record().read_text())["runs"] if self.record() else []
        return [(run["data_version"], run["outcome"], run["exit_code"]) for run in runs]

    def version(self):
        """As the watcher documents it."""
        version = hashlib.sha256()
        files = {path.relative_to(self.data).as_posix(): path for path in self.data.rglob("*") if path.is_file()}
        for name, path in sorted(files.items()):
            if not f"/{name}".count("/.") and path.suffix not in (".part", ".tmp"):
                version.update(name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
        return version.hexdigest()

    def hold(self, held=True):
        (self.folder / "hold").touch() if held else (self.folder / "hold").unlink()

    def fail(self, code):
        (self.folder / "code").write_text(str(code))

    def write(self, name, text):
        (self.data / name).parent.mkdir(exist_ok=True)
        (self.data / name).write_text(text)

    def rename(self, name, other):
        (self.data / name).rename(self.data / other)

    def remove(self, name):
        (self.data / name).unlink()


@pytest.fixture
def scene(tmp_path, project):
    scene = Scene(tmp_path / "a scene", project)
    yield scene
    (scene.folder / "hold").unlink(missing_ok=True)


def wait_until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


class Stepped:
    """A watcher that goes on from one sleep to the next when it is told to."""

    def __init__(self, scene, *flags):
        self.scene = scene
        report, inside = os.pipe()
        options = {"env": {"REPORT": str(inside)}, "pass_fds": [inside], "stdin": subprocess.PIPE}
        self.process = scene.popen(
            "-c", STEPPED, *scene.words(*flags), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options
        )
        os.close(inside)
        self.report = os.fdopen(report)
        self._listen()

    def step(self):
        if self.sleeps == "run":
            time.sleep(0.01)
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self._listen()

    def _listen(self):
        assert select.select([self.report], [], [], 60)[0], "the watcher neither sleeps nor ends"
        self.sleeps = KINDS[self.report.readline().strip()]

    def after(self, *events):
        """Perform events, one at each sleep, and go on to the sleep between two looks; counts the settling sleeps."""
        settles, waiting = 0, list(events)
        while waiting or self.sleeps != "interval":
            if waiting:
                waiting.pop(0)()
            self.step()
            settles += self.sleeps == "settle"
        return settles

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.report.close()


def test_each_change_leads_to_one_run_through_file_events_and_kills(scene):
    expected = []
    watcher = Stepped(scene)

    def expect(*events, settles, runs):
        """What the events lead to: how many times it waits until they have settled, and how many runs."""
        assert watcher.after(*(events or [lambda: None])) == settles
        expected.extend([scene.version()] * runs)
        assert scene.started() == expected

    write, rename, remove, data = scene.write, scene.rename, scene.remove, scene.data

    # An empty folder, and what does not count.
    expect(settles=0, runs=0)
    expect(lambda: write(".hidden", "x"), lambda: write("a.jpg.part", "half"), settles=0, runs=0)
    # A copy under another name, and one that grows in pieces.
    expect(lambda: rename("a.jpg.part", "a.jpg"), settles=1, runs=1)
    expect(*[lambda n=n: write("b.jpg", "piece" * n) for n in (1, 2, 3)], settles=3, runs=1)
    # Touched, written again with the same bytes, truncated and filled again: nothing new.
    expect(lambda: os.utime(data / "a.jpg"), lambda: write("b.jpg", "piece" * 3), settles=0, runs=0)
    expect(lambda: write("b.jpg", ""), lambda: write("b.jpg", "piece" * 3), settles=2, runs=0)
    # Renamed and back, swapped, deleted, empty folders, folders that are moved.
    expect(lambda: rename("b.jpg", "c.jpg"), settles=1, runs=1)
    expect(lambda: rename("c.jpg", "b.jpg"), settles=1, runs=0)  # it has run on that
    expect(lambda: (rename("a.jpg", "x"), rename("b.jpg", "a.jpg"), rename("x", "b.jpg")), settles=1, runs=1)
    expect(lambda: remove("b.jpg"), settles=1, runs=1)
    expect(lambda: write("empty.jpg", ""), settles=1, runs=1)
    expect(lambda: (data / "folder").mkdir(), settles=0, runs=0)
    expect(lambda: (write("cats/1.jpg", "1"), write("cats/2.jpg", "2")), settles=1, runs=1)
    expect(lambda: rename("cats", ".cats"), settles=1, runs=0)  # as it was before

    # Changes during a run lead to exactly one more, and those that are undone to none.
    def during(*events):
        scene.hold()
        write("new.jpg", str(len(expected)))
        while watcher.sleeps != "run":
            watcher.step()
        wait_until(lambda: len(scene.started()) > len(expected))
        expected.append(scene.version())
        for event in events:
            event()
            watcher.step()
            assert watcher.sleeps == "run"

    during(lambda: write("f.jpg", "6"), lambda: write("g.jpg", "7"), lambda: remove("f.jpg"))
    expect(lambda: scene.hold(False), settles=0, runs=0)
    expect(settles=1, runs=1)
    during(lambda: write("h.jpg", "8"), lambda: remove("h.jpg"))
    expect(lambda: scene.hold(False), settles=0, runs=0)
    expect(settles=0, runs=0)

    # A failure is not repeated, also not after a touch, until the data changes.
    scene.fail(3)
    expect(lambda: write("i.jpg", "9"), settles=1, runs=1)
    assert scene.runs()[-1] == (scene.version(), "failed", 3)
    expect(lambda: os.utime(data / "i.jpg"), settles=0, runs=0)
    scene.fail(0)
    expect(lambda: write("i.jpg", "10"), settles=1, runs=1)

    def restart(*flags):
        nonlocal watcher
        watcher.kill()
        watcher = Stepped(scene, *flags)
        watcher.after()

    # Killed between two looks, with and without a change until it is started again; killed while a change settles.
    restart()
    expect(settles=0, runs=0)
    watcher.kill()
    write("j.jpg", "11")
    restart()
    expect(settles=0, runs=1)
    write("k.jpg", "12")
    watcher.step()
    assert watcher.sleeps == "settle"
    restart()
    expect(settles=0, runs=1)
    # Killed during a run that goes on: the next watcher waits for it, then sees to what has changed since.
    during()
    watcher.kill()
    write("l.jpg", "13")
    watcher = Stepped(scene)
    assert watcher.sleeps == "run"
    expect(lambda: scene.hold(False), settles=1, runs=1)
    # Killed during a run that comes to its end alone.
    during()
    watcher.kill()
    scene.hold(False)
    wait_until(scene.record().with_suffix(".exit").exists)
    restart()
    expect(settles=0, runs=0)
    # Killed together with its run, as when the machine stops: that is run again.
    during()
    os.killpg(json.loads(scene.record().read_text())["runs"][-1]["pid"], signal.SIGKILL)
    watcher.kill()
    scene.hold(False)
    restart()
    expect(settles=0, runs=1)
    assert [run[1] for run in scene.runs()[-2:]] == ["interrupted", "finished"]
    # A failure is not repeated after a kill either, unless it is asked for.
    scene.fail(4)
    expect(lambda: remove("k.jpg"), settles=1, runs=1)
    restart()
    expect(settles=0, runs=0)
    restart("--retry")
    expect(settles=0, runs=1)
    # Gone, empty, and there again as it was before the failure.
    scene.fail(0)
    shutil.move(data, scene.folder / "elsewhere")
    expect(settles=0, runs=0)
    data.mkdir()
    expect(settles=1, runs=0)
    data.rmdir()
    shutil.move(scene.folder / "elsewhere", data)
    expect(lambda: write("k.jpg", "12"), settles=1, runs=0)
    watcher.kill()
    finished = [version for version, outcome, _ in scene.runs() if outcome == "finished"]
    assert len(set(finished)) == len(finished) and len(scene.runs()) == len(expected)


def test_killed_at_any_moment_it_starts_each_version_once_and_comes_to_the_last(scene):
    chance, began = random.Random(0), time.monotonic()
    scene.once()
    start = time.monotonic() - began
    for change in range(10):
        watcher = scene.watch(settle=0.05, interval=0.02)
        time.sleep(chance.random() * start)
        scene.write(f"{chance.randrange(4)}.jpg", str(change))
        time.sleep(chance.random() * (start + 0.3))
        watcher.kill()
        watcher.communicate()
    assert scene.once()[0] == 0
    started = scene.started()
    assert len(started) > 2 and len(set(started)) == len(started)
    assert scene.runs()[-1] == (scene.version(), "finished", 0) and started[-1] == scene.version()
    assert sorted(version for version, outcome, _ in scene.runs() if outcome == "finished") == sorted(started)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)])
def test_a_signal_ends_the_command_too_and_the_next_start_runs_it_again(number, code, scene):
    scene.write("a.jpg", "a")
    scene.hold()
    watcher = scene.watch(settle=0)
    wait_until(lambda: scene.started() and scene.record())
    watcher.send_signal(number)
    errors = watcher.communicate(timeout=60)[1]
    assert watcher.returncode == code and "Traceback" not in errors
    ((version, outcome, _),) = scene.runs()
    assert (version, outcome) == (scene.version(), "interrupted")
    scene.hold(False)
    assert scene.once()[0] == 0
    assert scene.started() == [version] * 2 and scene.runs()[-1] == (version, "finished", 0)


def test_once_runs_at_most_once_ends_with_the_exit_code_and_leaves_a_damaged_record(scene):
    code, output, errors = scene.once()
    assert (code, output, scene.started()) == (0, "", [])
    assert errors.splitlines()[-1] == f"waiting for data: no files in {scene.data}"
    scene.write("a.jpg", "a")
    scene.fail(5)
    code, output, errors = scene.once()
    assert code == 5 and output.splitlines() == ["a line before", '{"run_id": "run 1"}']
    assert f"error: exit code 5 on data version {scene.version()[:12]}; the command runs again when" in errors
    code, output, errors = scene.once()
    assert (code, output) == (0, "") and "failed, not run again by itself" in errors
    assert scene.once("--retry")[0] == 5
    scene.fail(0)
    scene.write("b.jpg", "b")
    assert scene.once()[0] == 0 and "run 3" in scene.once()[2]
    (last,) = json.loads(scene.record().read_text())["runs"][2:]
    assert (last["data_version"], last["run_id"]) == (scene.version(), "run 3")
    record = scene.record()
    record.write_text(record.read_text()[:200])
    code, _, errors = scene.once()
    assert code == 2 and errors.startswith(f"error: {record}: not a record of runs")
    assert len(record.read_text()) == 200


def test_a_second_watcher_on_the_same_path_and_command_says_so(scene):
    scene.write("a.jpg", "a")
    scene.hold()
    first = scene.watch(settle=0)
    wait_until(scene.started)
    code, output, errors = scene.once()
    assert (code, output) == (2, "")
    assert errors == f"error: --data {scene.data}: another watcher is already there, with the same command\n"
    scene.command.append("another argument")
    scene.hold(False)
    assert scene.once()[0] == 0
    first.terminate()
    first.communicate(timeout=60)


def test_a_single_file_is_watched_too(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("files,type")
    contents = Contents(path)
    first = contents.look()
    assert contents.look() == first is not None
    path.write_text("other")
    assert contents.look() != first


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--data {data} --", "no command: expected -- COMMAND... at the end"),
        ("--data {data} -- no-such-program", "-- no-such-program: no such command"),
        ("--data {data}/none -- true", "{data}/none: no such file or folder"),
        ("--data {state} -- true", "--data {state}: holds what runs write (cache/)"),
        ("--data {data} --settle soon -- true", "expected a number of seconds from 0 on, found 'soon'"),
        ("--data {data} --interval -1 -- true", "expected a number of seconds from 0 on, found '-1'"),
    ],
)
def test_unusable_input_is_one_line_and_exit_code_2(words, told, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("REPROAI_STATE", str(tmp_path))
    (tmp_path / "data").mkdir()
    places = {"data": tmp_path / "data", "state": tmp_path}
    with pytest.raises((UserError, SystemExit)) as error:
        watch.main([word.format(**places) for word in words.split()])
    ends = error.value.exit_code if isinstance(error.value, UserError) else error.value.code
    line = capsys.readouterr().err.removesuffix("\n") or str(error.value)
    assert ends == 2 and "\n" not in line and told.format(**places) in line


def test_files_at_rest_are_not_read_again_and_coarse_time_stamps_hide_no_change(tmp_path, monkeypatch):
    now, reads = 0.0, []
    digest, stat = hashlib.file_digest, Path.stat
    tick = 2_000_000_000

    def coarse(path, **options):  # all that happens in this test is in the same tick of the file system's clock
        info = stat(path, **options)
        fields = {name: getattr(info, name) for name in ("st_mode", "st_size", "st_ino", "st_dev")}
        return SimpleNamespace(st_mtime_ns=int(now) // 2 * tick, st_ctime_ns=int(now) // 2 * tick, **fields)

    monkeypatch.setattr(watched.time, "monotonic", lambda: now)
    monkeypatch.setattr(hashlib, "file_digest", lambda file, kind: reads.append(file.name) or digest(file, kind))
    (tmp_path / "a.jpg").write_text("old")
    (tmp_path / "b.jpg").write_text("old")
    contents = Contents(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", coarse)
        first = contents.look()
        now = 1.5
        (tmp_path / "a.jpg").write_text("new")  # as long as before, and at the same time
        assert contents.look() != first
    now = 10
    version = contents.look()  # the clock is fine from here on
    now = 12
    assert contents.look() == version
    reads.clear()
    now = 20
    assert contents.look() == version and reads == []
    times = (tmp_path / "b.jpg").stat()
    (tmp_path / "b.jpg").write_text("new")
    os.utime(tmp_path / "b.jpg", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert contents.look() != version and reads == [str(tmp_path / "b.jpg")]


def test_links_are_followed_but_not_in_circles(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.jpg").write_text("a")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "self").symlink_to(tmp_path / "data")
    (tmp_path / "data" / "up").symlink_to(tmp_path)
    (tmp_path / "data" / "nothing.jpg").symlink_to(tmp_path / "nothing")
    os.mkfifo(tmp_path / "data" / "pipe")
    contents = Contents(tmp_path / "data")
    first = contents.look()
    assert len(contents) == 1
    (tmp_path / "elsewhere" / "a.jpg").write_text("another")
    assert contents.look() != first


QUICK = """from common.config import TrainingConfig

config = TrainingConfig(image_size=32, warmup_epochs=1, epochs=2)
"""


class Retraining:
    """The documented command, run as it is written, in a copy of the project; only the config is a quicker one."""

    def __init__(self, folder: Path):
        self.folder, self.data = copy_code(folder / "project"), folder / "project" / "scans"
        shutil.copy(PROJECT / "run_script.bash", self.folder)
        (self.folder / "step_5" / "configs" / "quick.py").write_text(QUICK)
        page = (PROJECT / "docs" / "production.md").read_text()
        lines = r"^bash run_script.bash python -m common.production.watch .*?'$"
        (as_written,) = re.findall(lines, page, re.MULTILINE | re.DOTALL)
        assert as_written.count("step_5/configs/brain_cnn.py") == 1
        self.command = as_written.replace("step_5/configs/brain_cnn.py", "step_5/configs/quick.py")
        self.watcher = None

    def add(self, *numbers):
        for number in numbers:
            for kind, bright in (("cat", slice(0, 20)), ("dog", slice(20, 40))):
                pixels = np.random.default_rng([number, bright.start]).integers(0, 160, (40, 40, 3))
                pixels[bright] += 60
                (self.data / kind).mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels.astype(np.uint8)).save(self.data / kind / f"{number}.png")

    def start(self):
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "OPTUNA_", "DATA_VERSION"))}
        environment = {**kept, "RUNNER": "none", "PYTHONPATH": str(self.folder)}
        environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
        streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
        command = ["bash", "-c", self.command]
        self.watcher = subprocess.Popen(command, cwd=self.folder, env=environment, start_new_session=True, **streams)

    def kill(self):
        """The watcher with all that it has started, as when the machine stops."""
        for run in self.runs():
            if run["pid"]:
                os.killpg(run["pid"], signal.SIGKILL)
        os.killpg(self.watcher.pid, signal.SIGKILL)
        self.watcher.wait()

    def runs(self):
        return next((json.loads(p.read_text())["runs"] for p in (self.folder / "cache" / "watch").glob("*.json")), [])

    def wait(self, condition):
        end = time.monotonic() + 400
        while not condition():
            assert self.watcher.poll() is None and time.monotonic() < end, self.runs()
            time.sleep(0.2)

    def wait_for_runs(self, number):
        self.wait(lambda: len(self.runs()) == number and self.runs()[-1]["outcome"] != "running")

    def roots(self):
        is_root = "(key, value) = ('run_level', 'root')"
        query = f"SELECT run_uuid, status FROM runs JOIN tags USING (run_uuid) WHERE {is_root} ORDER BY start_time"
        with closing(sqlite3.connect(self.folder / "mlflow.db", timeout=60)) as database:
            return database.execute(query).fetchall()


@pytest.fixture
def retraining(tmp_path):
    retraining = Retraining(tmp_path)
    yield retraining
    if retraining.watcher and retraining.watcher.poll() is None:
        retraining.kill()


@pytest.mark.slow
@pytest.mark.hostile("the documented watch command trains again for each change of the images", cases=5)
def test_the_documented_command_trains_when_files_are_added_and_after_a_kill(retraining):
    retraining.add(*range(14))
    retraining.start()
    retraining.wait_for_runs(1)
    splits = retraining.folder / "data" / "scans"
    first = (splits / "dataset_splits.json").read_bytes()

    retraining.add(14, 15)
    retraining.wait(lambda: len(retraining.roots()) == 2)
    retraining.kill()
    assert [status for _, status in retraining.roots()] == ["FINISHED", "RUNNING"]
    retraining.add(16)
    retraining.start()
    retraining.wait_for_runs(3)  # on the newest images
    retraining.add(17)
    retraining.wait_for_runs(4)
    for number in (17, 16):
        for kind in ("cat", "dog"):
            (retraining.data / kind / f"{number}.png").unlink()
    retraining.wait_for_runs(5)  # on those of the run that was killed: it goes on
    retraining.kill()

    assert [run["outcome"] for run in retraining.runs()] == ["finished", "interrupted", *["finished"] * 3]
    first_id, killed_id, third_id, fourth_id = [run_id for run_id, _ in retraining.roots()]
    assert [run["run_id"] for run in retraining.runs()] == [first_id, killed_id, third_id, fourth_id, killed_id]
    assert {status for _, status in retraining.roots()} == {"FINISHED"}
    kept = {path.name: json.loads(path.read_bytes()) for path in splits.iterdir()}
    assert len(kept) == 4 and any(path.read_bytes() == first for path in splits.iterdir())
    assert sorted(len(found["files"]) for found in kept.values()) == [28, 32, 34, 36]
