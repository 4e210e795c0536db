"""Scripts as a user runs them, in processes forked from one that has imported the libraries: that saves seconds."""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

STORES = """
import alembic.command, mlflow.store.model_registry.sqlalchemy_store, mlflow.store.tracking.sqlalchemy_store
import optuna.storages._rdb.storage, sqlalchemy.orm
sqlalchemy.orm.configure_mappers()
"""
"""What a second of each run is that opens a database."""
SERVER = """
import atexit, json, os, runpy, signal, sys, traceback
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
import matplotlib.backends.backend_agg, matplotlib.figure, mlflow, optuna.storages, pandas, scipy.signal, scipy.stats
import seaborn, sklearn.linear_model, sklearn.metrics, sklearn.model_selection, sklearn.pipeline, torch, torchinfo
import torchvision.transforms.v2
STORES
for line in sys.stdin:
    job = json.loads(line)
    pid = os.fork()
    if pid == 0:
        os.setsid()
        for number, name in ((0, os.devnull), (1, job["out"]), (2, job["err"])):
            os.dup2(os.open(name, os.O_WRONLY if number else os.O_RDONLY), number)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.environ.clear()
        os.environ.update(job["environment"])
        if encoding := os.environ.get("PYTHONIOENCODING"):
            sys.stdout.reconfigure(encoding=encoding)
        os.chdir(job["cwd"])
        sys.argv = job["argv"]
        beside = [] if job["module"] else [os.path.dirname(sys.argv[0])]
        sys.path[:1] = [*beside, *os.environ["PYTHONPATH"].split(os.pathsep)]
        code = 0
        try:
            if job["module"]:
                runpy.run_module(job["module"], run_name="__main__", alter_sys=True)
            else:
                runpy.run_path(sys.argv[0], run_name="__main__")
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
            if code == 1 and not isinstance(end.code, int):
                print(end.code, file=sys.stderr)
        except BaseException:
            traceback.print_exc()
            code = 1
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    print(pid, flush=True)
    _, status = os.waitpid(pid, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
""".replace("STORES", STORES)


class Forks:
    """Runs scripts one after the other; it is started with the first."""

    def __init__(self):
        self._server = None

    def run(self, script, arguments, cwd, environment, module=None) -> subprocess.CompletedProcess:
        """Run a script, or ``-m module``, to its end."""
        self.begin(script, arguments, cwd, environment, module)
        return self.end()

    def begin(self, script, arguments, cwd, environment, module=None) -> int:
        """Returns the number of its process, which may be killed before :meth:`end` waits for it."""
        if self._server is None:
            self._server = subprocess.Popen(
                [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            self._folder = Path(tempfile.mkdtemp())
        self._argv = [str(script), *map(str, arguments)]
        job = {"argv": self._argv, "module": module, "cwd": str(cwd), "environment": environment}
        for name in ("out", "err"):
            (path := self._folder / name).unlink(missing_ok=True)  # somebody may still write to that of the last one
            path.touch()
            job[name] = str(path)
        self._server.stdin.write(json.dumps(job) + "\n")
        self._server.stdin.flush()
        return int(self._server.stdout.readline())

    def end(self) -> subprocess.CompletedProcess:
        """Wait for the script, and tell what it printed."""
        code = int(self._server.stdout.readline())
        texts = [(self._folder / name).read_text() for name in ("out", "err")]
        return subprocess.CompletedProcess(self._argv, code, *texts)

    def close(self):
        if self._server is not None:
            self._server.stdin.close()
            self._server.wait()
            shutil.rmtree(self._folder)
