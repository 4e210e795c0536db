"""Repeats a finished run with its own code, data and command, and says whether the results are the same.

``python -m common.tracking.reproduce RUN_ID [--only root_split=0] [--in-place] [--yes]``

A run is code: repeat those of people you trust. Of its command only ``step_N/train.py`` is run, of a commit that git
has here, with flags of that step; or, of a run of ``common.params.train``, the script in that commit that called it,
from the project folder, with a new logdir. A commit that came with a run from another machine is asked for. Code from
the tracking store, which is what was not committed and a config file from outside of the project, is shown and asked
for, and so are arguments of such a script; ``--yes`` is the answer of a script.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from contextlib import nullcontext, redirect_stderr, redirect_stdout
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
    flags.add_argument("run_id", help="of a finished root run, or how it begins")
    flags.add_argument("--only", metavar="root_split=K", help="repeat one outer fold alone")
    flags.add_argument("--in-place", action="store_true", help="with the code as it is now, not as it was")
    flags.add_argument("--yes", action="store_true", help="run what comes from the tracking store unasked")
    args = flags.parse_args(argv)
    only = _root_split(args.only)

    from common.tracking.finding import whole_id
    from common.tracking.recorded_code import ask, code_of
    from common.tracking.runs import Run
    from common.tracking.store import Connection, open_store
    from common.tracking.upkeep import store_uri
    from common.tracking.verdict import VERDICTS, compare_reproduced

    uri, _ = open_store("step_2")
    client = Connection(uri)
    args.run_id = whole_id(client, args.run_id)
    first = _finished(client, args.run_id)
    is_own = first.data.tags.get("step") == "train"
    command, known = _own_command(first, only, args.yes) if is_own else _command(first)
    _check_data_version(first, known.data)
    if only is not None:
        _check_fold(client, args.run_id, only, hasattr(known, "only_root_split"))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        diff = b"" if args.in_place else _recorded(client, args.run_id, "provenance/uncommitted.diff", args.yes)
        config = getattr(known, "config", None)
        if config and config.is_absolute():
            (folder / "config").mkdir()
            command[1] = str(folder / "config" / config.name)
            Path(command[1]).write_bytes(_recorded(client, args.run_id, config.name, args.yes))
        print(f"repeating run {args.run_id}: python {_shown(shlex.join(command))}", flush=True)
        commit = first.data.params.get("git_commit", "")
        code = nullcontext(PROJECT) if args.in_place else code_of(commit, diff, folder, ask(args.yes))
        with code as project:
            if config and not config.is_absolute():
                _check_inside(args.run_id, project, config, "config file")
            if is_own:
                _check_inside(args.run_id, project, Path(command[0]), "script")
            again = _repeat(first, command, project, store := folder / "mlflow.db", only)
            verdict, report = compare_reproduced(uri, first, store_uri(store), again, only)
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


def _check_fold(client: Connection, run_id: str, only: int, has_folds: bool) -> None:
    from common.tracking.verdict import artifact

    if not has_folds:
        raise UserError(f"--only root_split={only}: run {run_id} is of step 2, which has no outer folds")
    table = artifact(client, run_id, "results.csv").decode()
    folds = {row["root_split"] for row in csv.DictReader(table.splitlines())}
    if str(only) not in folds:
        found = ", ".join(sorted(folds, key=int))
        raise UserError(f"--only root_split={only}: run {run_id} has other outer folds ({found})")


def _finished(client: Connection, run_id: str):
    try:
        run = client.get_run(run_id)
    except UserError as error:
        raise UserError(f"run {run_id}: no such run") from error
    level = run.data.tags.get("run_level", "other")
    if (run.info.status, level) != ("FINISHED", "root"):
        raise UserError(
            f"run {run_id}: {run.info.status} {level} run; expected a FINISHED root run of step 2 to 5, or of train"
        )
    if "command" not in run.data.tags:
        raise UserError(f"run {run_id}: it does not say how it was started (tag 'command')")
    return run


def _command(run) -> tuple[list[str], argparse.Namespace]:
    """Script and arguments, which may come from anyone who can write to the store, and what they mean."""
    its = f"run {run.info.run_id}: its tag 'command' is {_shown(run.data.tags['command'])}"
    try:
        script, *arguments = json.loads(run.data.tags["command"].replace("\\u0000", "?"))
        step = int(re.fullmatch(r"step_([1-5])/train\.py", script)[1])
    except (ValueError, TypeError):
        raise UserError(f"{its}; expected step_N/train.py, N from 1 to 5, and its flags") from None
    said = io.StringIO()
    with redirect_stderr(said), redirect_stdout(said):
        try:
            known = cli.train_parser("", step).parse_args(arguments)
        except (SystemExit, TypeError):
            refused = said.getvalue().split(" (see ")[0].removeprefix("error: ")
            raise UserError(f"{its}; step_{step}/train.py does not take that: {_shown(refused)[:200]}") from None
    if getattr(known, "engine", "local") != "local":  # who answers there could run code here
        raise UserError(f"{its}; expected no --engine")
    if step == 5 and (Path(*arguments[:1]) != known.config or known.config.name in ("", "..")):
        raise UserError(f"{its}; expected a config file as the first argument")
    return [script, *arguments], known


def _own_command(run, only: int | None, yes: bool) -> tuple[list[str], argparse.Namespace]:
    """The script that called ``common.params.train`` and its arguments, which are asked for."""
    its = f"run {run.info.run_id}: its tag 'command' is {_shown(run.data.tags['command'])}"
    try:
        script, *arguments = json.loads(run.data.tags["command"].replace("\\u0000", "?"))
        path = Path(script)
    except (ValueError, TypeError):
        raise UserError(f"{its}; expected a script and its arguments") from None
    if path.suffix != ".py" or path.is_absolute() or ".." in path.parts:
        raise UserError(f"{its}; expected a script in the project, and its arguments")
    if only is not None:
        raise UserError(f"--only root_split={only}: run {run.info.run_id} has no root splits")
    if arguments and not yes:
        if not sys.stdin.isatty():
            raise UserError(f"{its}, with arguments, which a terminal shows and asks for; --yes takes them")
        print(_shown(shlex.join([script, *map(str, arguments)])))
        if not cli.confirmed("run this command from the tracking store?"):
            raise UserError(f"run {run.info.run_id}: not repeated, since its command is not trusted")
    return [script, *map(str, arguments)], argparse.Namespace(data=".")


def _check_inside(run_id: str, project: Path, path: Path, what: str) -> None:
    file = (project / path).resolve()
    if not (file.is_relative_to(project.resolve()) and file.is_file()):
        raise UserError(f"run {run_id}: its {what} {_shown(str(path))} is not in its recorded code")


def _recorded(client: Connection, run_id: str, name: str, yes: bool) -> bytes:
    """Code from the tracking store; it is shown and asked for."""
    from common.tracking.verdict import artifact

    content = artifact(client, run_id, name)
    if not content.strip():
        return content
    if not (yes or sys.stdin.isatty()):
        its = f"run {run_id}: {name}: {len(content.splitlines())} lines of code from the tracking store"
        raise UserError(f"{its}, which a terminal shows and asks for; --yes runs it")
    print(f"{name} of run {run_id}:", _shown(content.decode(errors="replace"), "\n\t"), sep="\n", flush=True)
    if not yes and not cli.confirmed(f"run this {name} from the tracking store?"):
        raise UserError(f"run {run_id}: not repeated, since {name} is not trusted")
    return content


def _shown(text: str, allowed: str = "") -> str:
    """A text without what moves a terminal's cursor, or hides."""
    return "".join(c if c.isprintable() or c in allowed else repr(c)[1:-1] for c in text)


def _check_data_version(run, data: str) -> None:
    """Refuse to begin while another version of the run's data is checked out."""
    md5, name = (run.data.params.get(param) for param in ("data_version", "data_version.path"))
    if name is None or md5 is None or " " in md5:  # data that differed from their .dvc file
        return
    folders = (*Path(data).parents, PROJECT)
    pointer = next((path for path in (folder / f"{name}.dvc" for folder in folders) if path.is_file()), None)
    its = f"run {run.info.run_id}: its data were version {md5} of {name}"
    if pointer is None:
        raise UserError(f"{its}, which is not under DVC here; git brings {name}.dvc")
    if f"md5: {md5}\n" not in pointer.read_text():
        again = f"python -m common.versions checkout {md5} {pointer.with_suffix('')}"
        raise UserError(f"{its}, and another one is checked out; {again} brings it back")


def _repeat(first, command: list[str], project: Path, store: Path, only: int | None):
    """Run the command again, with a tracking store and studies of its own; returns the new root run."""
    from common.tracking.store import Connection
    from common.tracking.upkeep import store_uri

    script, *arguments = command
    is_own = first.data.tags.get("step") == "train"
    if only is not None:
        arguments += ["--only-root-split", str(only)]
    if "precision" in first.data.params and not is_own:  # what was chosen then, whatever would be chosen now
        arguments.append(f"--precision={first.data.params['precision']}")
    own = {"REPROAI_LOGDIRS": str(store.with_name("logs"))} if is_own else {}
    own |= {"MLFLOW_TRACKING_URI": store_uri(store), "OPTUNA_STORAGE": f"sqlite:///{store.with_name('optuna.db')}"}
    done = subprocess.run(
        [sys.executable, str(project / script), *arguments, *([] if is_own else ["--fresh"])],
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
    roots = client.search_runs(everywhere, "tags.run_level = 'root'")
    same = [run for run in roots if run.data.tags.get("fingerprint") == first.data.tags.get("fingerprint")]
    if not same and len(roots) != 1:
        raise UserError(f"run {first.info.run_id}: its script made {len(roots)} runs now, and none like it")
    return (same or roots)[0]


if __name__ == "__main__":
    cli.run(lambda: sys.exit(main()))
