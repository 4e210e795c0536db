"""Runs that are ended at any moment, and what is left of them."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from forking import STORES

from conftest import copy_code

FORKER = """
import contextlib, json, os, resource, signal, sys
import matplotlib.backends.backend_agg, seaborn, sklearn.linear_model, sklearn.model_selection, sklearn.pipeline
import common.evaluation.ending, common.evaluation.predictions, common.evidence.audit, common.search.studies
import common.tracking.starting, common.training.engine
from common import cli
STORES
for line in sys.stdin:
    job = json.loads(line)
    pid = os.fork()
    if pid == 0:
        os.setsid()
        with open(job["log"], "w") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.environ.update(job["environment"])
        if job["limit"]:
            resource.setrlimit(resource.RLIMIT_FSIZE, (job["limit"], job["limit"]))
        code = 0
        try:
            import importlib
            cli.run(lambda: importlib.import_module(job["module"]).main(job["argv"]))
        except SystemExit as end:
            code = end.code or 0
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    print(pid, flush=True)
    _, status = os.waitpid(pid, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
""".replace("STORES", STORES)


READ = "import pathlib, common.tracking.code as code\ncode.code_digests(pathlib.Path().glob('step_*/train.py'))\n"
"""Reads the code once for all runs, which half a second of each would be."""


def children(pid):
    """Of a process: those that any of its threads has started."""
    return [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]


@dataclass
class Ended:
    """How a run ended: its exit code (minus the signal that killed it), seconds, and what it printed."""

    code: int
    seconds: float
    output: str


class Killer:
    """A copy of the project whose scripts run in processes forked from one that has imported everything."""

    def __init__(self, folder: Path, data: Path, empty_stores: Path):
        self.folder, self._empty = folder, empty_stores
        copy_code(folder)
        self.data = str(data)
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "OPTUNA_"))}
        self.environment = {**kept, "PYTHONPATH": str(folder)}
        self._forker = subprocess.Popen(
            [sys.executable, "-c", READ + FORKER],
            cwd=folder,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def close(self):
        self._forker.stdin.close()
        self._forker.wait()

    def clean(self, databases=True, cache=False):
        """Forget all runs; pictures and their splits stay, and empty databases, which take seconds to make.

        With `cache`, what was computed of the pictures stays too: runs are quicker than the first one.
        """
        for name in ("mlruns", *(("cache/checkpoints", "cache/outbox") if cache else ("cache",))):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        for name in ("mlflow.db", "optuna.db"):
            (self.folder / name).unlink(missing_ok=True)
            if databases:
                shutil.copy(self._empty / name, self.folder)

    def run(self, *argv, after=None, phases=None, number=signal.SIGKILL, limit=0, step=5, **environment) -> Ended:
        """Run ``step_N/train.py --fast --n-jobs 1``, and send it a signal after some seconds, or finished phases."""
        log = self.folder / "log"
        words = ["--fast", "--data", self.data, *map(str, argv)] + ([] if step == 2 else ["--n-jobs", "1"])
        job = {"module": f"step_{step}.train", "argv": words, "log": str(log), "limit": limit}
        job["environment"] = environment
        self._forker.stdin.write(json.dumps(job) + "\n")
        self._forker.stdin.flush()
        pid, started = int(self._forker.stdout.readline()), time.monotonic()
        if after is not None:
            self._kill(pid, after, number)
        if phases is not None:
            self.wait_for(phases)
            self._kill(pid, 0, number)
        code = int(self._forker.stdout.readline())
        return Ended(code, time.monotonic() - started, log.read_text())

    def undisturbed(self, step):
        """What such a run leaves that nobody disturbs."""
        self.clean()
        ended = self.run(step=step)
        assert ended.code == 0, ended.output
        return self.state()

    def spawn(self, *argv, after=None, number=signal.SIGKILL, step=5, **environment) -> Ended:
        """The same in a process of its own, from the start of Python on."""
        command = [sys.executable, f"step_{step}/train.py", "--fast", "--data", self.data, *map(str, argv)]
        log, started = self.folder / "log", time.monotonic()
        with log.open("w") as file:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=self.environment | environment,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
            if after is not None:
                time.sleep(after)
                process.send_signal(number)
            process.wait()
        return Ended(process.returncode, time.monotonic() - started, log.read_text())

    def kill_a_helper(self, of_server, phases, *argv) -> Ended:
        """Kill a process for fits, or the server from which they are forked, after some finished phases."""
        log, started = self.folder / "log", time.monotonic()
        with log.open("w") as file:
            process = subprocess.Popen(
                [sys.executable, "step_5/train.py", "--fast", "--data", self.data, *map(str, argv)],
                cwd=self.folder,
                env=self.environment,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        self.wait_for(phases)
        (server,) = [pid for pid in children(process.pid) if b"forkserver" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        os.kill(server if of_server else children(server)[-1], signal.SIGKILL)
        process.wait()
        return Ended(process.returncode, time.monotonic() - started, log.read_text())

    def phases(self):
        """How many phases are finished."""
        is_phase = "SELECT run_uuid FROM tags WHERE key = 'phase'"
        finished = f"SELECT COUNT(*) FROM runs WHERE status = 'FINISHED' AND run_uuid IN ({is_phase})"
        return self.query("mlflow.db", finished)[0][0]

    def wait_for(self, phases):
        """Wait until that many phases are finished."""
        while self.phases() < phases:
            time.sleep(0.05)

    @staticmethod
    def _kill(pid, after, number):
        time.sleep(after)
        with suppress(ProcessLookupError):
            os.kill(pid, number)

    def query(self, database, sql):
        with closing(sqlite3.connect(self.folder / database)) as connection:
            return connection.execute(sql).fetchall()

    def roots(self):
        """(run id, status) of the root runs, by start time."""
        if not (self.folder / "mlflow.db").exists():
            return []
        is_root = "SELECT run_uuid FROM tags WHERE key = 'run_level' AND value = 'root'"
        return self.query(
            "mlflow.db", f"SELECT run_uuid, status FROM runs WHERE run_uuid IN ({is_root}) ORDER BY start_time"
        )

    def artifacts(self, pattern):
        return sorted(path.read_bytes() for path in (self.folder / "mlruns").rglob(pattern))

    def state(self):
        """All that must not depend on whether a run was interrupted, of a project with one run; none of it deleted."""
        name = "SUBSTR(study_name, INSTR(study_name, ' '))"
        active = "WHERE lifecycle_stage = 'active'"
        trials = f"SELECT {name}, number, state, trial_id FROM trials JOIN studies USING (study_id) ORDER BY 1, 2"
        found = {
            "trials": [],
            "statuses": dict(self.query("mlflow.db", f"SELECT status, COUNT(*) FROM runs {active} GROUP BY 1")),
        }
        for study, number, status, trial_id in self.query("optuna.db", trials):
            of_trial = f"WHERE trial_id = {trial_id} ORDER BY 1, 2"
            values = self.query("optuna.db", f"SELECT value, value FROM trial_values {of_trial}")
            params = self.query("optuna.db", f"SELECT param_name, param_value FROM trial_params {of_trial}")
            folds = self.query(
                "optuna.db", f"SELECT step, intermediate_value FROM trial_intermediate_values {of_trial}"
            )
            found["trials"].append((study, number, status, values, params, folds))
        steps = "SELECT run_uuid, key, step, COUNT(*) AS n FROM metrics GROUP BY 1, 2, 3"
        found["doubled"] = self.query("mlflow.db", f"SELECT * FROM ({steps}) WHERE n > 1")
        found["metrics"] = self.query("mlflow.db", "SELECT key, step, value FROM metrics ORDER BY 1, 2, 3")
        found["results"] = self.artifacts("results.csv")
        found["best"] = self.artifacts("best_config.py")
        found["left"] = [path.name for path in (self.folder / "cache").glob("outbox/*")]
        found["left"] += [path.name for path in (self.folder / "cache").glob("checkpoints/*") if path.is_dir()]
        return found
