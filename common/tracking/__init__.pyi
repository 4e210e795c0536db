from .finding import find_root as find_root, find_run as find_run
from .runs import Run as Run
from .starting import start as start
