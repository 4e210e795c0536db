from .cnn_space import (
    CNNSpace as CNNSpace,
    cnn_objective as cnn_objective,
    create_cnn_from_trial as create_cnn_from_trial,
    optuna_cnn as optuna_cnn,
    retrain_and_eval as retrain_and_eval,
)
from .finished import (
    fits_of as fits_of,
    importance as importance,
    load_study as load_study,
    studies_of as studies_of,
    trials_table as trials_table,
)
from .studies import (
    FoldPruner as FoldPruner,
    count_fits as count_fits,
    create_study as create_study,
    how_drawn as how_drawn,
    optimize as optimize,
)
