from .finding import data_of as data_of, find_run as find_run
from .runs import Run as Run
from .starting import start as start
