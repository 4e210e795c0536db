from .deleting import delete_runs as delete_runs
from .exporting import export_runs as export_runs
from .importing import import_results as import_results
from .listing import list_runs as list_runs
from .own_folds import export_folds as export_folds, import_folds as import_folds
from .shown import plot_run as plot_run, results_by_fold as results_by_fold, show_run as show_run
from .space import disk_use as disk_use, tidy as tidy
from .syncing import sync_runs as sync_runs
