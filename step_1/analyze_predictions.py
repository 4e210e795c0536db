"""Step 1: pictures of the last predictions."""

import pandas as pd

from common import cli, evaluation, plots

OUTPUTS = cli.PROJECT / "step_1" / "outputs"


def plot(predictions, results):
    """The pictures, by name."""
    classes = evaluation.classes_of(predictions)
    return {
        "roc": plots.roc_plot(predictions, classes),
        "density": plots.density_plot(predictions, classes),
        "calibration": plots.calibration_plot(predictions, classes),
        "confusion": plots.confusion_plot(predictions, classes),
    }


def main(argv=None):
    cli.parser(__doc__).parse_args(argv)
    if not (OUTPUTS / "results.csv").exists():
        raise cli.UserError(f"{OUTPUTS}: no predictions; step_1/train.py makes them")
    predictions = pd.read_csv(OUTPUTS / "predictions.csv")
    results = pd.read_csv(OUTPUTS / "results.csv")
    for path in plots.save_plots(plot(predictions, results), OUTPUTS):
        print(path)
    print(evaluation.analysis_text(predictions, results))
    return results


if __name__ == "__main__":
    cli.run(main)
