from .decisions import decision_plot as decision_plot
from .forest import subgroup_plot as subgroup_plot
from .paired import difference_plot as difference_plot
from .reliability import calibration_plot as calibration_plot
from .repeated import repeats_plot as repeats_plot
from .scores import (
    confusion_plot as confusion_plot,
    density_plot as density_plot,
    fold_plot as fold_plot,
    roc_plot as roc_plot,
    save_plots as save_plots,
)
from .visualizer import save_study_plots as save_study_plots, study_plots as study_plots
