"""How scripts end: without a reader of their output, on a full disk, by Ctrl-C after their work, by foreign code."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from common.state import PROJECT

SCRIPT = """
import atexit, os, signal, sys, threading, time
from common import cli

class Late:
    def __del__(self, sleep=time.sleep, write=os.write):
        write(1, b"leaving\\n")
        sleep(60)

def leave_late():
    while signal.getsignal(signal.SIGINT) is not signal.SIG_DFL:  # until `main` has returned
        time.sleep(0.01)
    leave()

def leave():
    print("leaving", flush=True)
    time.sleep(60)

def main():
    for i in range(20_000):
        print("a line", file=(sys.stdout, sys.stderr)[sys.argv[1:] == ["both"] and i % 2])
    print("done", flush=True)
    {}

cli.run(main)
"""

LOST = """
import importlib._bootstrap as bootstrap, signal, sys, threading, time, types
from common import cli

def interrupted(*_):
    global interrupted
    interrupted = lambda: None
    signal.raise_signal(NUMBER)

def in_a_destructor():
    class Gone:
        __del__ = interrupted
    Gone()

def with_the_lock_of_all_imports():
    def acquire_lock(acquire=bootstrap._imp.acquire_lock):
        acquire()
        if sys._getframe(1).f_code.co_name == "cb":  # it forgets the lock of a module
            interrupted()
    bootstrap._imp = types.SimpleNamespace(**dict(vars(bootstrap._imp), acquire_lock=acquire_lock))
    import colorsys

def where_any_error_is_a_lack():
    sys.interrupted = interrupted
    import lacking

def main():
    other = threading.Thread(target=lambda: __import__("fractions"), daemon=True)
    try:
        {}()
        time.sleep(60)
    finally:
        other.start()
        other.join(10)
        print("the other thread", "waits" if other.is_alive() else "is done", flush=True)

cli.run(main)
"""


@pytest.fixture
def start(tmp_path):
    """Starts a script, whose `main` ends with a line, in a session of its own, by a shell's words for ``"$@"``."""
    started = []

    def start(line, shell='exec "$@"', script=SCRIPT, **environment):
        (tmp_path / "script.py").write_text(script.format(line))
        process = subprocess.Popen(
            ["bash", "-c", f"{shell}; exit ${{PIPESTATUS[0]}}", "bash", sys.executable, "script.py"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(PROJECT), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # what starts the tests may ignore it
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


OUTPUTS = [
    ('"$@" | head -1', 0, ""),
    ('"$@" | true', 0, ""),
    ('"$@" both 2>&1 | head -1', 0, ""),
    ('"$@" >&-', 0, ""),
    ('"$@" >/dev/full', 2, "error: standard output: No space left on device; all but what was printed is kept\n"),
    ('"$@" >/dev/full 2>&1', 2, ""),
    ('"$@" both >/dev/null 2>/dev/full', 0, ""),
]


@pytest.mark.hostile("a script whose output ends does its work all the same")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(("shell", "code", "said"), OUTPUTS)
def test_a_script_whose_output_ends_does_its_work_without_a_traceback(shell, code, said, unbuffered, start, tmp_path):
    process = start("open('work', 'w').write('done')", shell, PYTHONUNBUFFERED=unbuffered)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (code, said)
    assert (tmp_path / "work").read_text() == "done"


@pytest.mark.slow
@pytest.mark.hostile("a script whose output ends does its work all the same")
@pytest.mark.parametrize(("target", "code"), [("2>&1 | head -1", 0), (">/dev/full", 2)])
def test_a_training_whose_output_ends_keeps_its_results(target, code, killer):
    killer.clean()
    command = (
        f'"{sys.executable}" step_3/train.py --fast --data "{killer.data}" --n-jobs 2 {target}; exit ${{PIPESTATUS[0]}}'
    )
    environment = killer.environment | {"PYTHONUNBUFFERED": "1"}
    done = subprocess.run(["bash", "-c", command], cwd=killer.folder, env=environment, capture_output=True)
    assert done.returncode == code and b"Traceback" not in done.stderr and b"Exception" not in done.stderr
    assert [status for _, status in killer.roots()] == ["FINISHED"] and len(killer.artifacts("results.csv")) == 1


@pytest.mark.hostile("Ctrl-C or SIGTERM after the last line ends a script at once, without a traceback")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("line", ["leave()", "threading.Thread(target=leave_late).start()", "atexit.register(leave)"])
def test_a_signal_after_the_last_line_ends_a_script_at_once(line, number, start):
    process = start(line)
    for text in process.stdout:
        if text == "leaving\n":
            break
    os.killpg(process.pid, number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode in (128 + number, -number)  # a shell says the former of both
    assert errors in ("", "interrupted\n")


@pytest.mark.hostile("Ctrl-C or SIGTERM is not lost where Python drops exceptions, and leaves it no lock")
@pytest.mark.parametrize(("number", "code", "said"), [(signal.SIGINT, 130, "interrupted\n"), (signal.SIGTERM, 143, "")])
@pytest.mark.parametrize("where", ["in_a_destructor", "with_the_lock_of_all_imports", "where_any_error_is_a_lack"])
def test_a_signal_where_python_drops_exceptions_ends_a_script_within_seconds(
    where, number, code, said, start, tmp_path
):
    (tmp_path / "lacking.py").write_text("import sys\ntry:\n    sys.interrupted()\nexcept BaseException:\n    pass\n")
    process = start(where, script=f"NUMBER = {number:d}\n{LOST}")
    printed, errors = process.communicate(timeout=20)
    assert (process.returncode, printed, errors) == (code, "the other thread is done\n", said)


def interrupted(after, environment, cwd=PROJECT, data="drawn"):
    """The exit code of a training that is interrupted so many seconds after its first imports, and its errors."""
    process = subprocess.Popen(
        [sys.executable, "-X", "importtime", "step_2/train.py", "--fast", "--data", data],
        cwd=cwd,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while not process.stderr.readline().strip().endswith("common.cli.errors"):
        pass
    timer = threading.Timer(after, process.send_signal, [signal.SIGINT])
    timer.start()
    errors = process.communicate(timeout=90)[1].splitlines()
    return process.returncode, [line for line in errors if not line.startswith("import time:")]


def test_ctrl_c_while_a_script_still_imports_is_one_line(tmp_path):
    assert interrupted(0, os.environ | {"REPROAI_STATE": str(tmp_path)}) == (130, ["interrupted"])


@pytest.mark.slow
@pytest.mark.hostile("Ctrl-C in the first seconds of a training ends it within seconds, with its last line", cases=16)
def test_ctrl_c_in_the_first_seconds_of_a_training_ends_it(killer):
    killer.clean()
    for moment in range(16):
        code, errors = interrupted(moment / 5, killer.environment, killer.folder, killer.data)
        assert (code, errors[-1:]) in ((130, ["interrupted"]), (0, [])), errors
        assert "Traceback" not in "".join(errors) and "Exception" not in "".join(errors)
    assert {status for _, status in killer.roots()} <= {"KILLED", "FINISHED"}


@pytest.mark.parametrize(("end", "code"), [("", 0), ("raise cli.UserError('no')", 2), ("raise KeyboardInterrupt", 130)])
def test_a_script_ends_when_all_is_done_without_being_taken_apart(end, code, start, tmp_path):
    process = start(f"sys.late = Late(); atexit.register(open('work', 'w').write, 'done'); {end}")
    printed, errors = process.communicate(timeout=60)
    assert (process.returncode, printed.splitlines()[-1]) == (code, "done"), errors
    assert (tmp_path / "work").read_text() == "done"


@pytest.mark.slow
@pytest.mark.hostile("Ctrl-C or SIGTERM after the last line ends a script at once, without a traceback", cases=8)
def test_ctrl_c_at_any_moment_after_a_training_loses_nothing(killer):
    for moment in range(8):
        killer.clean()
        process = subprocess.Popen(
            [sys.executable, "step_2/train.py", "--fast", "--data", killer.data],
            cwd=killer.folder,
            env=killer.environment | {"PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        for text in process.stdout:
            if text.startswith("done:"):
                break
        time.sleep(moment**2 / 50)
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert process.returncode in (130, -signal.SIGINT, 0)  # 0: it had ended
        assert "Traceback" not in errors and "Exception" not in errors
        assert [status for _, status in killer.roots()] == ["FINISHED"] and len(killer.artifacts("results.csv")) == 1


@pytest.mark.hostile("a config that raises or ends what it likes is one line")
@pytest.mark.parametrize("code", ["", "0", "3", "'why'"])
def test_foreign_code_that_ends_the_program_is_an_error_with_its_place(code, start):
    process = start(f"exec(compile('\\n\\nsys.exit({code})', 'network.py', 'exec'))".replace("'why'", '"why"'))
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 2
    assert errors.startswith("error: network.py:3: expected it to go on, but it ended the program (SystemExit: ")
