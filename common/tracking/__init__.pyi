from .finding import (
    data_of as data_of,
    find_root as find_root,
    find_run as find_run,
    setting_of as setting_of,
    show_scores as show_scores,
    texts_on_record as texts_on_record,
)
from .records import FitRun as FitRun
from .runs import Run as Run
from .seam import why_shown as why_shown
from .starting import start as start
from .unfinished import HasFinished as HasFinished
