"""Audits data before anything is trained on them: copies, patients on both sides of a split, shortcuts.

``python -m common.evidence.audit --data …``; the scripts from step 3 on do the same before a run.
"""

from __future__ import annotations

import json
from pathlib import Path

from common import cli, data
from common.evidence.audit_page import audit_page
from common.evidence.auditing import audit, coarse_features
from common.evidence.findings import Audit, Finding, as_json, waivers
from common.evidence.flow import flow_of
from common.evidence.sheets import check_page_name, write_page
from common.state import cache_folder


def before_run(table, roots, args) -> dict[str, str]:
    """The audit before a run, which ends it where results would be wrong; returns its files by their names.

    Parameters
    ----------
    roots : nested lists of Fold
    args : argparse.Namespace
        The flags of a script from step 3 on.

    Raises
    ------
    UserError
        After a line for each finding.
    """
    folds = [fold for folds in roots for fold in folds]
    found = audit(table, folds, coarse_features(table), args.independent, waivers(args.waive))
    _say(found, table)
    found.check_stops()
    flow = json.dumps(flow_of(table, folds))
    return {"audit.json": as_json(found), "audit.html": audit_page(found, table), "flow.json": flow}


def _say(found: Audit, table, path: Path | None = None) -> None:
    print("\n".join(found.lines()))
    if path is None and found.stops:
        path = cache_folder() / f"audit-{found.fingerprint[:24]}.html"
    if path is not None:
        write_page(path, audit_page(found, table))
        print(f"page: {path}")


def main(argv: list[str] | None = None) -> Audit:
    """The command: ``python -m common.evidence.audit --data …``."""
    flags = cli.parser(__doc__)
    cli.data_flags(flags)
    cli.audit_flags(flags)
    flags.add_argument("--backbone", default="small_cnn", metavar="NAME", help="of the frozen features")
    flags.add_argument("--image-size", type=cli.whole_number(16, 1024), default=64, metavar="N", help="pixels per side")
    flags.add_argument("--output", type=Path, default=Path("audit.html"), metavar="FILE", help="(default: %(default)s)")
    flags.add_argument("--json", action="store_true", help="end with one line of JSON")
    args = flags.parse_args(argv)
    check_page_name(args.output)
    from common import training
    from common.config import TrainingConfig
    from common.evidence.untouched import touched_by_test
    from common.seeds import Stream
    from common.training.features import frozen_features

    waived = waivers(args.waive)
    table = data.load_images(args.data, args.image_size, args.skip_unreadable, not args.no_cache)
    splits = data.current_splits(table)
    folds = [data.folds_of(splits, root, 1)[0] for root in range(len(splits["root_splits"]))]
    config = TrainingConfig(backbone=args.backbone, image_size=args.image_size)
    compute = training.set_up(parallel_fits=1, config=config)
    features = frozen_features(training.new_model(config, table, compute, Stream(0)), table)
    found = audit(table, folds, features, args.independent, waived)
    touched = touched_by_test(table, folds[0], config, compute)
    found.checks["fitted-state"] = "the same to the last bit" if not touched else f"{len(touched)} values differ"
    if touched:
        text = f"with other test images, {', '.join(touched[:3])} differ before the test; expected the same values"
        found.findings.append(Finding("fitted-state", "stop", text))
    _say(found, table, args.output)
    if args.json:
        print(as_json(found))
    found.check_stops()
    return found


if __name__ == "__main__":
    cli.run(main)
