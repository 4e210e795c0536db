from .analysis import analysis_text as analysis_text
from .compare import compare_models as compare_models
from .ending import conclude as conclude
from .metrics import (
    SCORES as SCORES,
    confusion as confusion,
    score_predictions as score_predictions,
    youden_threshold as youden_threshold,
)
from .predictions import (
    classes_of as classes_of,
    ensemble_scores as ensemble_scores,
    join as join,
    mean_scores as mean_scores,
    predictions_table as predictions_table,
    results_of as results_of,
)
from .repeats import repeat as repeat
from .results_text import results_table as results_table, summary as summary
from .scored import as_metrics as as_metrics, more_test_scores as more_test_scores
from .statistics import (
    corrected_resampled_interval as corrected_resampled_interval,
    corrected_resampled_ttest as corrected_resampled_ttest,
)
from .subgroups import subgroup_scores as subgroup_scores, subgroups_text as subgroups_text
