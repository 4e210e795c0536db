from .finding import data_of as data_of, find_root as find_root, find_run as find_run
from .records import FitRun as FitRun
from .runs import Run as Run
from .starting import HasFinished as HasFinished, start as start
