"""Step 3: pictures of a run's predictions, kept in a run of their own below it."""

from common import cli, evaluation, plots, tracking

OUTPUTS = cli.PROJECT / "step_3" / "outputs"


def plot(predictions, results):
    """The pictures, by name."""
    classes = evaluation.classes_of(predictions)
    return {
        "roc": plots.roc_plot(predictions, classes),
        "density": plots.density_plot(predictions, classes),
        "calibration": plots.calibration_plot(predictions, classes),
        "confusion": plots.confusion_plot(predictions, classes),
        "folds": plots.fold_plot(predictions, results),
    }


def main(argv=None):
    flags = cli.parser(__doc__)
    flags.add_argument("--run-id", metavar="ID", help="a finished root run (default: the newest)")
    args = flags.parse_args(argv)
    run = tracking.find_run("step_3", args.run_id)
    predictions = run.read_table("predictions.csv")
    results = run.read_table("results.csv")
    with run.child("analysis", analysis="predictions") as analysis:
        analysis.log(evaluation.more_test_scores(predictions), 0)
        for path in plots.save_plots(plot(predictions, results), OUTPUTS / run.run_id):
            analysis.file(path, "plots")
            print(path)
    print(evaluation.analysis_text(predictions, results))
    return results


if __name__ == "__main__":
    cli.run(main)
