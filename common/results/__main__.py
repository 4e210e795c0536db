"""Find, move, shrink and delete results: ``python -m common.results list|show|disk|tidy|delete|export|import|…``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common import cli, results
from common.cli import UserError, escaped

if TYPE_CHECKING:
    import pandas as pd


def main(argv: Sequence[str] | None = None) -> None:
    """Do what the command says."""
    flags = cli.parser(__doc__)
    names = "list|show|disk|tidy|delete|export|import|sync|splits"
    commands = flags.add_subparsers(dest="command", required=True, metavar=names)

    def add(name: str, action: Callable[[argparse.Namespace], object], about: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=about, description=about)
        command.set_defaults(action=action)
        return command

    command = add("list", _list, "one line a root run, the newest first")
    command.add_argument("--experiment", metavar="NAME")
    command.add_argument("--data", metavar="NAME")
    command.add_argument("--since", metavar="DAY", help="2026-11-01, or 12h, 7d, 2w ago")
    command.add_argument("--where", metavar="CHECK", help="such as 'test_roc_auc > 0.9 and step = 5'")
    _formats(command)
    command = add("show", _show, "all that is known of a run")
    command.add_argument("run", metavar="RUN", help="its id, or how it begins")
    command.add_argument("--plots", type=Path, metavar="FOLDER", help="draw its predictions there")
    _formats(add("disk", lambda args: _print(results.disk_use(), args), "what takes space"))
    command = add("tidy", _tidy, "remove what nobody needs: shows it, then asks")
    command.add_argument("--keep-networks", choices=["best", "all", "none"], default="all", help="of finished runs")
    command.add_argument("--older", type=_days, default=0.0, metavar="TIME", help="networks of runs older than 30d, 2w")
    command.add_argument("--yes", action="store_true", help="do not ask")
    command = add("delete", _delete, "remove runs for good, with all that is theirs")
    command.add_argument("runs", nargs="+", metavar="RUN")
    command.add_argument("--force", action="store_true", help="also one in production, in a report, or read")
    command.add_argument("--yes", action="store_true", help="do not ask")
    command = add("export", _export, "write runs into one file, for another machine")
    command.add_argument("runs", nargs="+", metavar="RUN")
    command.add_argument("-o", "--output", type=Path, default=Path("results.zip"), metavar="FILE")
    command.add_argument("--share", action="store_true", help="without paths, names of hosts and users, addresses")
    command = add("import", lambda args: _say(results.import_results(args.file)), "add the runs of such a file")
    command.add_argument("file", type=Path, metavar="FILE")
    command = add("sync", lambda args: _say(results.sync_runs(args.uri, args.runs)), "bring runs of here to a server")
    command.add_argument("uri", metavar="ADDRESS", help="of MLflow's server, or a database")
    command.add_argument("runs", nargs="*", metavar="RUN", help="(default: all)")
    _splits(commands)
    args = flags.parse_args(argv)
    try:
        args.action(args)
    except OSError as error:  # such as a folder of somebody else, a file in place of a folder, a full disk
        raise UserError(f"{error.filename or args.command}: {error.strerror or error}") from error


def _splits(commands: Any) -> None:
    parts = commands.add_parser("splits", help="folds of one's own").add_subparsers(
        dest="part", required=True, metavar="import|export"
    )
    command = parts.add_parser(
        "import", help="a CSV file,fold or file,root_split,inner_split,part, or JSON of cv.split"
    )
    command.add_argument("file", type=Path, metavar="FILE")
    cli.data_flags(command)
    command.add_argument("--force", action="store_true", help="replace other splits of the same images")
    command.set_defaults(action=lambda args: results.import_folds(args.file, args.data, args.force))
    command = parts.add_parser("export", help="the splits of data as a CSV file,root_split,inner_split,part")
    cli.data_flags(command)
    command.add_argument("-o", "--output", type=Path, default=Path("splits.csv"), metavar="FILE")
    command.set_defaults(action=lambda args: print(results.export_folds(args.data, args.output)))


def _formats(command: argparse.ArgumentParser) -> None:
    form = command.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true")
    form.add_argument("--csv", action="store_true")


def _list(args: argparse.Namespace) -> None:
    _print(results.list_runs(args.experiment, args.data, args.since, args.where), args)


def _show(args: argparse.Namespace) -> None:
    print(results.show_run(args.run))
    if args.plots:
        _say(results.plot_run(args.run, args.plots))


def _tidy(args: argparse.Namespace) -> None:
    from common.results.sizes import in_words_of
    from common.results.space import remove, wasted
    from common.tracking.store import open_tracking, other_stores

    found = wasted(args.keep_networks, args.older)
    for uri in other_stores(open_tracking()):
        print(escaped(f"left alone, as they may be of runs at {uri}: checkpoints, studies, summaries"))
    for waste in found:
        print(escaped(f"{waste.what:<22}{in_words_of(waste.size):>10}  {waste.path if waste.size else waste.run}"))
    total = in_words_of(sum(waste.size for waste in found))
    if not found:
        print("nothing to tidy")
    elif _agreed(args.yes, f"remove these {len(found)}, {total}?", "tidy"):
        gone = remove(found)
        left = f"; {len(found) - len(gone)} left, as a process works on them" if len(gone) < len(found) else ""
        print(f"removed {len(gone)}, {in_words_of(sum(waste.size for waste in gone))}{left}")


def _delete(args: argparse.Namespace) -> None:
    from common.results.listing import for_people
    from common.results.trees import LEVELS

    ids = _ids(args.runs, LEVELS)
    if not args.yes and sys.stdin.isatty():
        table = results.list_runs()
        if not (shown := table[table["run"].isin(ids)]).empty:  # those on their way in or out are not listed
            print(for_people(shown))
    if _agreed(args.yes, f"delete {', '.join(ids)} for good?", "delete"):
        _say(results.delete_runs(ids, args.force))


def _export(args: argparse.Namespace) -> None:
    from common.results.sizes import bytes_of, in_words_of

    ids = _ids(args.runs)
    path = results.export_runs(ids, args.output, args.share)
    print(escaped(f"exported: {len(ids)} run{'s' * (len(ids) > 1)}, {in_words_of(bytes_of(path))}: {path}"))


def _ids(texts: Sequence[str], levels: Sequence[str] = ("root",)) -> list[str]:
    from common.results.deleting import root_ids
    from common.results.opening import open_trees

    return root_ids(open_trees(), texts, levels)


def _agreed(yes: bool, question: str, command: str) -> bool:
    if yes:
        return True
    if not sys.stdin.isatty():
        raise UserError(f"{command}: asks before it removes anything, and there is no terminal; --yes is the answer")
    return cli.confirmed(question)


def _days(text: str) -> float:
    from common.results.listing import days_in

    if (days := days_in(text)) is None:
        raise argparse.ArgumentTypeError(f"expected a time such as 30d, 12h or 2w, found {text!r:.40}")
    return days


def _say(lines: Sequence[object]) -> None:
    for line in lines:
        print(escaped(str(line)))


def _print(table: pd.DataFrame, args: argparse.Namespace) -> None:
    if args.json:
        print(json.dumps(json.loads(table.to_json(orient="records", date_format="iso", double_precision=15))))
    elif args.csv:
        print(table.to_csv(index=False, lineterminator="\n"), end="")
    else:
        from common.results.listing import for_people

        print(for_people(table))


if __name__ == "__main__":
    cli.run(main)
