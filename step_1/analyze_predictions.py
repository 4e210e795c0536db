"""Step 1: pictures of the last predictions."""

from common import cli, data, evaluation, plots

OUTPUTS = cli.PROJECT / "step_1" / "outputs"


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
    args = cli.analysis_parser(__doc__, step=1).parse_args(argv)
    if not (OUTPUTS / "results.csv").exists():
        raise cli.UserError(f"{OUTPUTS}: no predictions; step_1/train.py makes them")
    predictions = data.read_table(OUTPUTS / "predictions.csv")
    results = data.read_table(OUTPUTS / "results.csv")
    figures = plot(predictions, results)
    text = evaluation.analysis_text(predictions, results, evaluation.more_test_scores(predictions, args.prevalence))
    if args.subgroups:
        subgroups = evaluation.subgroup_scores(predictions, args.subgroups, args.info)
        figures["subgroups"] = plots.subgroup_plot(subgroups, args.subgroups)
        text += "\n\n" + evaluation.subgroups_text(predictions, args.subgroups, subgroups)
    for path in plots.save_plots(figures, OUTPUTS):
        print(path)
    print(text)
    return results


if __name__ == "__main__":
    cli.run(main)
