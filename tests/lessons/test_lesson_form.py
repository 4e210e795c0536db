"""Each lesson has its question, recap, quiz and linked terms, and times that agree with the guide for instructors."""

import re
from itertools import pairwise

import pytest
from stored_lessons import STEPS, cells, said, text_of

from common.state import PROJECT

TEACHING = (PROJECT / "docs" / "teaching.md").read_text()
SPECIAL = (
    "backbone",
    "batch",
    "bootstrap",
    "calibration",
    "checkpoint",
    "dropout",
    "epoch",
    "hyper-parameter",
    "learning.rate",
    "linear.probe",
    "metric",
    "optimism",
    "optimi[sz]er",
    "overfitting",
    "pruner",
    "random.search",
    "recalibration",
    "sampler",
    "sensitivity",
    "specificity",
    "standard.error",
    "threshold",
    "TPE",
    "variance",
    "warm-up",
)


@pytest.mark.parametrize("step", STEPS)
def test_a_lesson_has_one_question_a_recap_of_five_lines_and_a_quiz_of_five_with_a_word_on_each_wrong_choice(step):
    text = text_of(step)
    assert text.count("**The question.**") == 1
    recap, quiz = re.search(r"^## Recap\n(.*?)^## Quiz\n(.*?)^## Further", text, re.MULTILINE | re.DOTALL).groups()
    assert re.findall(r"^(\d)\. ", recap, re.MULTILINE) == list("12345")
    questions = re.split(r"^\*\*\d\.", quiz, flags=re.MULTILINE)[1:]
    assert len(questions) == 5
    for question in questions:
        said_of = re.findall(r"</summary>\n\n(Right|Not yet|No)\b(.*?)\n\n</details>", question, re.DOTALL)
        assert len(said_of) == question.count("<details>") >= 3, question
        assert [verdict for verdict, _ in said_of].count("Right") == 1, question
        assert all(len(why) > 15 for verdict, why in said_of if verdict != "Right"), question


@pytest.mark.parametrize("step", STEPS)
def test_terms_lead_to_the_glossary_and_files_are_there(step):
    text = text_of(step)
    names = re.findall("^### (.+)", (PROJECT / "docs" / "glossary.md").read_text(), re.MULTILINE)
    terms = {re.sub(r"[^\w -]", "", name.lower()).replace(" ", "-") for name in names}
    linked = re.findall(r"\]\(\.\./docs/glossary\.md#([\w-]+)\)", text)
    assert set(linked) <= terms and len(set(linked)) == len(linked) > 8, "each term is linked once, at its first use"
    for path in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (PROJECT / f"step_{step}" / path).exists(), path


@pytest.mark.parametrize("step", STEPS)
def test_a_term_of_the_field_is_linked_where_a_lesson_first_uses_it_after_its_outline(step):
    text = "\n".join(cell.source for cell in cells(step)[1:] if cell.cell_type == "markdown").partition("## Recap")[0]
    prose = re.sub(r"`[^`]*`|^#.*$|<summary>.*?</summary>|\]\(.*?\)", "", text, flags=re.MULTILINE)
    for term in SPECIAL:
        first = re.search(rf"(\[\*?)?(?<![\w-]){term}", prose, re.IGNORECASE)
        assert not first or first[1], f"lesson {step}: {prose[first.start() - 30 : first.end() + 10]}"


@pytest.mark.parametrize("step", STEPS)
def test_cells_whose_output_ci_compares_are_marked_by_tags_and_not_by_lines_that_learners_read(step):
    assert any({"close", "nbval-check-output"} & set(cell.metadata.get("tags", ())) for cell in cells(step))
    assert not any("NBVAL" in cell.source for cell in cells(step))


@pytest.mark.parametrize("step", STEPS)
def test_scores_are_stored_with_three_decimals_at_most(step):
    shown = [found for cell in cells(step) for found in re.findall(r"(?<![\w.])0\.[1-9]\d{3,}", said(cell))]
    assert not shown, "small settings, such as learning rates, may have more"


def rows_after(heading):
    rows = re.search(rf"^{heading}\n.*?\n((?:\|[^\n]*\n)+)", TEACHING, re.MULTILINE | re.DOTALL)[1].splitlines()
    return [[entry.strip() for entry in row.strip("|").split("|")] for row in rows if "---" not in row]


def minutes():
    """The table of times: a dict for each lesson."""
    header, *rows = rows_after("## Times")
    return {row[0]: dict(zip(header[1:], map(int, row[1:]), strict=True)) for row in rows}


PARTS = "reading", "predicting, running, explaining", "exercises", "building"


def test_times_stand_in_one_place_and_add_up_and_lessons_and_specifications_keep_to_them():
    *lessons, total = minutes().values()
    assert len(lessons) == 5 and all(sum(of[name] for of in lessons) == total[name] for name in total)
    for step, of in zip(STEPS, lessons, strict=True):
        assert sum(of[part] for part in PARTS) == of["in all"] >= of["two half days"] > of["short way"]
        told = re.findall(
            r"\*\*Your time:\*\* about (\d+) minutes [^.]+\.\d to \d\.\d, and (\d+) to build", text_of(step)
        )
        assert told == [(str(of["in all"] - of["building"]), str(of["building"]))]
        page = PROJECT / f"step_{step}" / "specification.md"
        assert step == 1 or f"Time: about {of['building']} minutes." in page.read_text()
    assert abs(total["in all"] / 60 - 11) < 0.25 and "eleven hours" in TEACHING
    assert "eleven hours" in (PROJECT / "README.md").read_text()


@pytest.mark.parametrize(
    ("heading", "way"),
    [
        ("### Two half days", "two half days"),
        ("### One day", "two half days"),
        ("### The short way: one half day", "short way"),
        ("### Two days: everything", "in all"),
    ],
)
def test_a_schedule_gives_each_lesson_its_time(heading, way):
    of, rows, planned = minutes(), rows_after(heading), dict.fromkeys("12345", 0)
    for side in range(0, len(rows[1]), 2):
        column = [(row[side], row[side + 1]) for row in rows if len(row) > side + 1 and ":" in row[side]]
        for (begin, what), (end, _) in pairwise([(60 * int(at[:-3]) + int(at[-2:]), what) for at, what in column]):
            assert end > begin
            if found := re.match(r"(?:lesson|build step) (\d)", what):
                planned[found[1]] += end - begin
    assert planned == {step: of[step][way] for step in planned}


def test_parts_that_a_way_leaves_out_or_takes_are_parts_of_the_lesson():
    ways = re.findall(r"^\| (\d) \| (\D.*)$", TEACHING.partition("## Schedules")[0].partition("capstone](")[2], re.M)
    assert [step for step, _ in ways] == list("12345")
    for step, names in ways:
        for name in re.findall(r"\*([^*]+)\*", names):
            assert re.search(rf"^##+ .*{re.escape(name)}", text_of(int(step)), re.MULTILINE), (step, name)


def test_the_readme_gives_the_hours_of_the_schedules():
    readme = (PROJECT / "README.md").read_text()
    assert rows_after("### Two half days")[-1][0] == "4:00" and "**Two half days** of four hours" in readme
    assert rows_after("### The short way: one half day")[-1][0] == "3:30" and "one half day (3 h 30 min)" in readme
