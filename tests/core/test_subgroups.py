"""Subgroups of the test images by a column of info.csv, and the flags of an analysis."""

from pathlib import Path

import pytest
from test_evaluation import a_run

from common import cli, plots
from common.cli import UserError
from common.evaluation import more_test_scores, subgroup_scores, subgroups_text


def info_of(folder, found, value_of, column="sex"):
    rows = [f"{file},{value_of(int(file[:4]))}" for file in sorted(set(found["file"]))]
    (folder / "info.csv").write_text("\n".join([f"files,{column}", *rows]))
    return folder / "info.csv"


def test_a_subgroup_has_the_scores_of_its_images_alone_and_a_small_one_none(tmp_path):
    found, _ = a_run(root_splits=2, inner_splits=2)
    sex = lambda number: "other" if number % 60 < 6 else ("female", "male")[number // 2 % 2]  # noqa: E731
    info = info_of(tmp_path, found, sex)
    subgroups = subgroup_scores(found, "sex", data=str(tmp_path))
    assert [(one.value, one.n_images, one.n_units) for one in subgroups] == [
        ("female", 52, [26, 26]),
        ("male", 56, [28, 28]),
        ("other", 12, [6, 6]),
    ]
    assert subgroups == subgroup_scores(found, "sex", info, "drawn")
    alone = found[(found["part"] == "dev") | (found["file"].str[:4].astype(int).map(sex) == "male")]
    for name, interval in subgroups[1].scores.items():
        assert interval == more_test_scores(alone)[name].interval and interval.limits
    assert list(subgroups[1].scores) == ["roc_auc", "sensitivity", "specificity"] and subgroups[2].scores == {}
    *lines, _ = subgroups_text(found, "sex", subgroups).splitlines()
    assert max(map(len, lines)) <= 100 and "6, 6  fewer than 10 of a class" in lines[3]
    assert f"{subgroups[0].scores['roc_auc'].value:.3f} [" in lines[1] and "26, 26" in lines[1]
    (axes,) = plots.subgroup_plot(subgroups, "sex").axes
    dots = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o"]
    assert dots == [one.scores["roc_auc"].value for one in subgroups[:2]]
    assert [tick.get_text() for tick in axes.get_yticklabels()][::-1] == [
        *("female (n = 52)", "male (n = 56)", "other (n = 12)")
    ]


def test_subgroups_of_many_classes_and_of_data_that_come_split(tmp_path):
    found, _ = a_run(("a", "b", "c"), n_test=90)
    found = found.assign(file=[("Train/", "Test/")[int(file[:4]) % 2] + file for file in found["file"]])
    for part in ("Train", "Test"):
        (tmp_path / part).mkdir()
        info_of(
            tmp_path / part,
            found[found["file"].str.startswith(part)].assign(file=found["file"].str[-8:]),
            lambda n: n // 2 % 2,
        )
    subgroups = subgroup_scores(found, "sex", data=str(tmp_path))
    assert [list(one.scores) for one in subgroups] == [["roc_auc"]] * 2
    assert all(one.n_units == [30, 30, 30] for one in subgroups)
    text = subgroups_text(found, "sex", subgroups)
    assert "specificity" not in text and "outer folds" not in text
    lacking = found[~((found["root_split"] == 1) & (found["part"] == "test") & (found["label"] == 2))]
    text = subgroups_text(lacking, "sex", subgroup_scores(lacking, "sex", data=str(tmp_path)))
    assert "0: means over 1 of 2 outer folds, those with all classes" in text


def test_what_is_wrong_with_a_column_is_one_line(tmp_path):
    found, _ = a_run()
    info = info_of(tmp_path, found, lambda number: number)
    for options, message in (
        ({"column": "age"}, "info.csv: expected the columns files,age, found files,sex"),
        ({"column": "sex"}, "sex has 120 values; expected at most 20, such as age groups"),
        ({"column": "sex", "info": tmp_path / "no.csv"}, "no.csv: no such file; expected --info FILE, a CSV file"),
        (
            {"column": "sex", "info": None, "data": "drawn"},
            "--subgroups sex: drawn comes without info.csv; expected --info",
        ),
        ({"column": "sex", "info": None, "data": None}, "--subgroups sex: what step 1 leaves comes without info.csv"),
        ({"column": "sex", "info": None, "data": str(tmp_path / "x")}, "x has no info.csv; expected --info FILE"),
    ):
        with pytest.raises(UserError) as error:
            subgroup_scores(found, **{"info": info, **options})
        assert message in str(error.value)
    info.write_text("\n".join(info.read_text().splitlines()[:-2]))
    with pytest.raises(UserError, match=r"no sex for 0118\.jpg \(2 such files\)"):
        subgroup_scores(found, "sex", info)


def test_the_flags_of_an_analysis_are_alike_but_for_runs(capsys):
    args = cli.analysis_parser("Of a run.", 4).parse_args(["--run-id", "a", "--prevalence", "0.05", "--info", "x.csv"])
    assert vars(args) == {"run_id": "a", "prevalence": 0.05, "subgroups": None, "info": Path("x.csv")}
    for words in (["--prevalence", "5"], ["--prevalence", "nan"], ["--prevalence", "x"], ["--run-id", "a"]):
        with pytest.raises(SystemExit) as end:
            cli.analysis_parser("Of a run.", 1).parse_args(words)
        assert end.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "--prevalence: expected a number between 0 and 1, such as 0.05, found" in line or "--run-id" in line
