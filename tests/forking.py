"""Scripts as a user runs them, in processes forked from one that has imported the libraries: that saves seconds."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

SERVER = """
import atexit, json, os, runpy, signal, sys, traceback
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
import matplotlib.backends.backend_agg, matplotlib.figure, mlflow, optuna.storages, pandas, scipy.signal, scipy.stats
import seaborn, sklearn.linear_model, sklearn.metrics, sklearn.model_selection, sklearn.pipeline, torch, torchinfo
import torchvision.transforms.v2

for line in sys.stdin:
    job = json.loads(line)
    pid = os.fork()
    if pid == 0:
        os.setsid()
        for number, name in ((0, os.devnull), (1, job["out"]), (2, job["err"])):
            os.dup2(os.open(name, os.O_RDONLY if number == 0 else os.O_WRONLY), number)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.environ.clear()
        os.environ.update(job["environment"])
        os.chdir(job["cwd"])
        sys.argv = job["argv"]
        sys.path[:1] = [os.path.dirname(sys.argv[0]), os.environ["PYTHONPATH"]]
        code = 0
        try:
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
    _, status = os.waitpid(pid, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


class Forks:
    """Runs scripts one after the other; it is started with the first."""

    def __init__(self):
        self._server = None

    def run(self, script, arguments, cwd, environment) -> subprocess.CompletedProcess:
        if self._server is None:
            self._server = subprocess.Popen(
                [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        argv = [str(script), *map(str, arguments)]
        with tempfile.NamedTemporaryFile() as out, tempfile.NamedTemporaryFile() as err:
            job = {"argv": argv, "cwd": str(cwd), "environment": environment, "out": out.name, "err": err.name}
            self._server.stdin.write(json.dumps(job) + "\n")
            self._server.stdin.flush()
            code = int(self._server.stdout.readline())
            texts = [Path(file.name).read_text() for file in (out, err)]
        return subprocess.CompletedProcess(argv, code, *texts)

    def close(self):
        if self._server is not None:
            self._server.stdin.close()
            self._server.wait()
