"""What the runs of a step are held against: names, columns and levels; and how a test says that one is not there."""

import pytest

KEYS = {"step", "run_id", "seconds", "fits", "test_roc_auc", "ci", "resumed"}
PREDICTION_COLUMNS = ["root_split", "inner_split", "part", "file", "class", "label", "probability", "threshold"]
PREDICTION_COLUMNS += ["prediction", "group", "digest", "outer_fold"]
SOURCES = {"git_commit", "git_dirty", "lock_sha256", "data_fingerprint", "seed", "command", "device", "python"}
PARENTS = {
    2: {"root": {None}, "phase": {"root"}},
    3: {"root": {None}, "root_split": {"root"}, "fold": {"root_split"}, "phase": {"fold"}},
    4: {
        "root": {None},
        "root_split": {"root"},
        "trial": {"root_split"},
        "fold": {"trial", "root_split"},
        "phase": {"fold"},
    },
}
"""For each run_level, the levels that its parent may have."""


def hold(holds, otherwise):
    if not holds:
        pytest.fail(otherwise, pytrace=False)


def some(names):
    names = sorted(names)
    return ", ".join(names[:2]) + (f" and {len(names) - 2} more" if len(names) > 2 else "")
