"""Repeats a finished run with its own code, data and command, and says whether the results are the same.

``python -m common.tracking.reproduce RUN_ID [--only root_split=0] [--in-place]``
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from common import cli
from common.cli import UserError
from common.state import PROJECT

if TYPE_CHECKING:
    from common.tracking.store import Connection


def main(argv=None) -> int:
    """Print and track the verdict; returns the exit code: 0, or 1 when the results differ."""
    flags = cli.parser(__doc__)
    flags.add_argument("run_id")
    flags.add_argument("--only", metavar="root_split=K", help="repeat one outer fold alone")
    flags.add_argument("--in-place", action="store_true", help="with the code as it is now, not as it was")
    args = flags.parse_args(argv)
    only = _root_split(args.only)

    from common.tracking.runs import Run
    from common.tracking.store import Connection, open_store
    from common.tracking.upkeep import store_uri
    from common.tracking.verdict import VERDICTS, compare

    uri, _ = open_store("step_2")
    first = _finished(Connection(uri), args.run_id)
    _check_data_version(first)
    print(f"repeating run {args.run_id}: python {' '.join(json.loads(first.data.tags['command']))}", flush=True)
    with tempfile.TemporaryDirectory() as folder, _code_of(uri, first, Path(folder), args.in_place) as project:
        store = Path(folder) / "mlflow.db"
        again = _repeat(first, project, store, only)
        verdict, report = compare(uri, first, store_uri(store), again, only)
    print("\n".join([f"verdict: {verdict}", *report]))
    run = Run(uri, first.info.experiment_id, args.run_id, {"root_run_id": args.run_id})
    with run.child("reproduction", run_level="reproduction", verdict=verdict) as tracked:
        tracked.text("\n".join([verdict, *report, ""]), "reproduction.txt")
    return VERDICTS.index(verdict) // 2


def _root_split(only: str | None) -> int | None:
    if only is None:
        return None
    name, _, number = only.partition("=")
    if name != "root_split" or not number.isdigit():
        raise UserError(f"--only {only}: expected root_split=K")
    return int(number)


def _finished(client: Connection, run_id: str):
    try:
        run = client.get_run(run_id)
    except UserError as error:
        raise UserError(f"run {run_id}: no such run") from error
    level = run.data.tags.get("run_level", "other")
    if (run.info.status, level) != ("FINISHED", "root"):
        raise UserError(f"run {run_id}: {run.info.status} {level} run; expected a FINISHED root run of step 2 to 5")
    if "command" not in run.data.tags:
        raise UserError(f"run {run_id}: it does not say how it was started (tag 'command')")
    return run


def _check_data_version(run) -> None:
    """Refuse to begin while another version of the run's data is checked out."""
    md5, name = (run.data.params.get(param) for param in ("data_version", "data_version.path"))
    if name is None or " " in md5:  # data that differed from their .dvc file
        return
    command = json.loads(run.data.tags["command"])
    folders = (*Path(command[command.index("--data") + 1]).parents, PROJECT)
    pointer = next((path for path in (folder / f"{name}.dvc" for folder in folders) if path.is_file()), None)
    its = f"run {run.info.run_id}: its data were version {md5} of {name}"
    if pointer is None:
        raise UserError(f"{its}, which is not under DVC here; git brings {name}.dvc")
    if f"md5: {md5}\n" not in pointer.read_text():
        again = f"python -m common.versions checkout {md5} {pointer.with_suffix('')}"
        raise UserError(f"{its}, and another one is checked out; {again} brings it back")


@contextmanager
def _code_of(uri: str, run, folder: Path, in_place: bool) -> Iterator[Path]:
    """A folder with the code that the run had: its commit and what was not committed then."""
    commit = run.data.params.get("git_commit", "")
    if in_place:
        yield PROJECT
        return
    from common.tracking.store import Connection
    from common.tracking.verdict import artifact

    project = folder / "project"
    known = subprocess.run(["git", "-C", str(PROJECT), "cat-file", "-e", f"{commit}^{{commit}}"], capture_output=True)
    if known.returncode != 0:
        raise UserError(f"its code is not here (commit {commit}); fetch it, or try the present code with --in-place")
    _git("worktree", "add", "--detach", str(project), commit)
    try:
        diff = folder / "uncommitted.diff"
        diff.write_bytes(artifact(Connection(uri), run.info.run_id, "provenance/uncommitted.diff"))
        if diff.stat().st_size:
            _git("apply", "--whitespace=nowarn", str(diff), folder=project)
        if (PROJECT / "data").exists():
            shutil.rmtree(project / "data", ignore_errors=True)  # the .dvc files of the commit
            (project / "data").symlink_to(PROJECT / "data")
        yield project
    finally:
        _git("worktree", "remove", "--force", str(project))


def _repeat(first, project: Path, store: Path, only: int | None):
    """Run the command again, with a tracking store and studies of its own; returns the new root run."""
    from common.tracking.store import Connection
    from common.tracking.upkeep import store_uri

    script, *arguments = json.loads(first.data.tags["command"])
    if only is not None:
        arguments += ["--only-root-split", str(only)]
    if "precision" in first.data.params:  # what was measured then, whatever a measurement would choose now
        arguments += ["--precision", first.data.params["precision"]]
    own = {"MLFLOW_TRACKING_URI": store_uri(store), "OPTUNA_STORAGE": f"sqlite:///{store.with_name('optuna.db')}"}
    done = subprocess.run(
        [sys.executable, str(project / script), *arguments, "--fresh"],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(project), **own},
        stdout=subprocess.PIPE,
        text=True,
    )
    if done.returncode != 0:
        if done.returncode in (130, 143, -2):
            raise KeyboardInterrupt
        raise UserError(f"run {first.info.run_id} cannot be repeated: its command ended with {done.returncode}")
    client = Connection(store_uri(store))
    everywhere = [experiment.experiment_id for experiment in client.search_experiments()]
    return client.search_runs(everywhere, "tags.run_level = 'root'")[0]


def _git(*arguments: str, folder: Path = PROJECT) -> None:
    done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise UserError(f"git {' '.join(arguments[:2])}: {done.stderr.strip().splitlines()[-1]}")


if __name__ == "__main__":
    cli.run(lambda: sys.exit(main()))
