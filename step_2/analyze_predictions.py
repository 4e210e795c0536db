"""Step 2: pictures of a run's predictions, kept in a run of their own below it."""

from common import cli, evaluation, plots, tracking

OUTPUTS = cli.PROJECT / "step_2" / "outputs"


def plot(predictions, results):
    """The pictures, by name."""
    classes = evaluation.classes_of(predictions)
    figures = {
        "roc": plots.roc_plot(predictions, classes),
        "density": plots.density_plot(predictions, classes),
        "calibration": plots.calibration_plot(predictions, classes),
        "confusion": plots.confusion_plot(predictions, classes),
    }
    if len(classes) == 2:
        figures["decision"] = plots.decision_plot(predictions, classes)
    return figures


def main(argv=None):
    args = cli.analysis_parser(__doc__, step=2).parse_args(argv)
    run = tracking.find_run("step_2", args.run_id)
    predictions, results = run.read_results()
    scores = evaluation.more_test_scores(predictions, args.prevalence)
    figures, text = plot(predictions, results), evaluation.analysis_text(predictions, results, scores)
    if args.subgroups:
        subgroups = evaluation.subgroup_scores(predictions, args.subgroups, args.info, tracking.data_of(run))
        figures["subgroups"] = plots.subgroup_plot(subgroups, args.subgroups)
        text += "\n\n" + evaluation.subgroups_text(predictions, args.subgroups, subgroups)
    with run.child("analysis", analysis="predictions") as analysis:
        analysis.log(evaluation.as_metrics(scores), 0)
        for path in plots.save_plots(figures, OUTPUTS / run.run_id):
            analysis.file(path, "plots")
            print(path)
    print(text)
    return results


if __name__ == "__main__":
    cli.run(main)
