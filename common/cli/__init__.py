"""The command line: flags, errors of one line, and how a script ends."""

from common.cli.analysis_flags import analysis_parser, score_flags
from common.cli.asking import confirmed
from common.cli.converters import MODEL_NAME, seed, whole_number
from common.cli.errors import (
    WINGS,
    KilledError,
    NonFiniteLossError,
    UserError,
    did_you_mean,
    escaped,
    lacking,
    masked,
    reason_of,
    writing,
)
from common.cli.flags import (
    PARTS,
    SOURCES,
    audit_flags,
    check_project,
    command_of,
    data_flags,
    each_model,
    parser,
    parts_in,
    promotion_flags,
    root_splits,
    train_parser,
    with_defaults,
)
from common.cli.script import keep_going_without_reader, run
from common.interrupting import Terminated
from common.state import PROJECT
