from .best_runs import best_config_file as best_config_file, tested_networks as tested_networks
from .clinics import SCANNERS as SCANNERS, make_clinic as make_clinic
from .exercises import answer as answer
from .folds import (
    backbone_features as backbone_features,
    fold_diagram as fold_diagram,
    probe_score as probe_score,
    scores_by_fold as scores_by_fold,
    simulated_scores as simulated_scores,
)
from .pictures import (
    augmented_pictures as augmented_pictures,
    learning_curves as learning_curves,
    sample_pictures as sample_pictures,
    small as small,
    spread_plot as spread_plot,
)
from .prediction import compare as compare, predict as predict
from .reading import delta as delta, source as source
from .run_tables import history as history, runs_table as runs_table
from .running import analyse as analyse, begin as begin, module as module, run_step as run_step
from .searches import (
    asked_plot as asked_plot,
    best_of_n_plot as best_of_n_plot,
    history_plot as history_plot,
    importance_plot as importance_plot,
    space_tree as space_tree,
    trials_shown as trials_shown,
)
from .tables import compact_table as compact_table, study as study
