"""The calibration plot's intervals, and the decision curve."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from test_evaluation import CLASSES, a_run

from common import plots
from common.plots import reliability


def test_effective_size_is_that_of_patients_as_far_as_their_images_are_alike():
    random, size = np.random.default_rng(3), reliability.effective_size
    files, units = pd.Series(range(160)), pd.Series(np.repeat(range(40), 4))
    of_units, of_files = pd.Series(np.repeat(random.random(40) < 0.4, 4) * 1), pd.Series((random.random(160) < 0.4) * 1)
    assert size(of_files, files, files) == 160
    assert size(of_units, files, units) == pytest.approx(40, rel=0.15)
    assert size(of_files, files, units) > 100
    assert size(of_units * 0, files, units) == 40 and size(of_units, files, files * 0) == 1


@pytest.mark.parametrize(("found", "n"), [(81, 263), (0, 20), (7, 7)])
def test_wilson_interval_is_the_one_of_scipy_and_newcombe(found, n):
    low, high = reliability.wilson_interval(np.array([found / n]), np.array([n]))
    known = {81: (0.2553, 0.3662), 0: (0, 0.1611)}  # Newcombe 1998, Statistics in Medicine 17:857-872
    assert (low[0], high[0]) == pytest.approx(stats.binomtest(found, n).proportion_ci(method="wilson"))
    assert (low[0], high[0]) == pytest.approx(known.get(found, (low[0], high[0])), abs=5e-5)


@pytest.mark.parametrize("per_patient", [1, 4])
def test_calibration_intervals_cover_where_four_images_of_a_patient_are_alike(per_patient):
    random, covered, n_simulations = np.random.default_rng(1), 0, 1000
    units = np.repeat(range(24), per_patient)
    for _ in range(n_simulations):
        chance = np.repeat(random.beta(0.4 / 4, 0.6 / 4, 24), per_patient)  # four fifths of the variance: of patients
        true = pd.Series((random.random(len(units)) < chance) * 1)
        n = reliability.effective_size(true, pd.Series(range(len(units))), pd.Series(units))
        low, high = reliability.wilson_interval(np.array([true.mean()]), np.array([n]))
        covered += low[0] <= 0.4 <= high[0]
    assert 0.925 <= covered / n_simulations <= 0.975


def test_decision_curve_is_net_benefit_done_by_hand_between_treating_all_and_nobody():
    found, _ = a_run(root_splits=2, inner_splits=1)
    (axes,) = plots.decision_plot(found, CLASSES).axes
    everyone, nobody, model = axes.lines
    thresholds, benefit = model.get_data()
    by_fold = []
    for _, test in found[found["part"] == "test"].groupby("root_split"):
        taken = test["probability"].to_numpy()[:, None] >= thresholds
        true = test["label"].to_numpy()[:, None] == 1
        by_fold.append((taken & true).mean(axis=0) - (taken & ~true).mean(axis=0) * thresholds / (1 - thresholds))
    assert benefit == pytest.approx(np.mean(by_fold, axis=0))
    assert everyone.get_ydata() == pytest.approx(0.5 - 0.5 * thresholds / (1 - thresholds))
    assert set(nobody.get_ydata()) == {0} and benefit[0] == pytest.approx(everyone.get_ydata()[0], abs=1e-3)
    band = axes.collections[0].get_paths()[0].vertices
    assert (
        band[:, 1].min() < benefit.min()
        and np.interp(0.5, thresholds, benefit) < band[np.isclose(band[:, 0], 0.5), 1].max()
    )
    one = found[
        (found["part"] == "dev") | (found["label"] == 0) | (found["file"] == found["file"][found["label"] == 1].max())
    ]
    assert not plots.decision_plot(one[one["root_split"] == 1], CLASSES).axes[0].collections  # one image of a class
