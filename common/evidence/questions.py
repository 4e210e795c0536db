"""What a machine cannot know: the questions of a report, and the file in which a person answers them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from common.cli import UserError
from common.cli.toml_files import read_toml
from common.evidence.statements import Ask
from common.state import whole_file

QUESTIONS: dict[str, dict[str, str]] = {
    "title": {
        "title": "What is the title of the report?",
        "authors": "Who answers for it, and how are they reached?",
    },
    "asked": {
        "background": "What is known already, and what is lacking?",
        "question": "What was asked?",
        "population": "About which people, or things, is something to be said?",
        "why_population": "Why these?",
        "why_ml": "Why with machine learning, and with this kind of model?",
        "intended_use": "Who is to use it, where and for what? What is it not for?",
    },
    "data": {
        "source": "Where do the data come from (institutions, devices, licence, DOI)?",
        "collection": "When, where and how were they collected, and by whom? Looking forward or back in time?",
        "sampling": "From which larger set are they, how were they chosen, and how well do they stand for it?",
        "eligibility": "Who was included, and who was not?",
        "acquisition": "How were the images taken (devices, protocol, preparation)?",
        "reference_standard": "What says which class an image is of, and why that?",
        "annotators": "Who decided that, knowing what, and how well did they agree?",
        "characteristics": "Who are the patients (age, sex, origin, severity), in each part?",
        "missing": "What is missing in the data, and how was that treated?",
        "sample_size": "Why so many?",
        "deidentification": "How were names and faces removed?",
        "ethics": "Who approved the study, and how was consent given?",
        "data_use": "What have the data been used for, what should they not be used for, and who looks after them?",
    },
    "results": {
        "fairness": "Which groups of people might be served worse, and what was done about it?",
        "external": "Was it tested on data from elsewhere, and what came out?",
        "failures": "What do the images have in common that were told wrongly?",
        "interpretation": "What do the results mean, also beside those of others?",
    },
    "person": {
        "limitations": "What are the limitations?",
        "not_for": "Where are the findings not expected to hold?",
        "implications": "What follows for practice, and what is to be studied next?",
        "risks": "What harm could come from using it, and what is done against that?",
        "protocol": "Where are the protocol and the registration?",
        "data_access": "Who can have the data, and how?",
        "code_access": "Who can have code and model, under which licence, and how?",
        "funding": "Who paid, and what was their part?",
        "conflicts": "Which interests do the authors have?",
        "involvement": "What was the part of patients and the public?",
    },
}
"""The question of each key of the file, by the section of the report that it stands in."""
HEAD = """# What a machine cannot know. Write each answer between the quotes (between three, over several lines);
# the report then shows it as the word of a person. An empty answer stays a box that is to be filled in.
"""


def read_answers(path: Path) -> dict[str, str]:
    """The answers in a file; none where there is no such file.

    Raises
    ------
    UserError
        When it is no TOML, has a key that is no question, or an answer that is no text.
    """
    known = [key for keys in QUESTIONS.values() for key in keys]
    if not path.exists():
        return {}
    found = read_toml(path, known)
    for key, answer in found.items():
        if not isinstance(answer, str):
            raise UserError(f"{path}: {key}: expected a text between quotes, found {answer!r:.40}")
    return {key: answer.strip() for key, answer in found.items()}


def write_questions(path: Path) -> bool:
    """Write the file with all questions unanswered, and return True; a file that is there stays as it is."""
    if path.exists():
        return False
    lines = [HEAD]
    for keys in QUESTIONS.values():
        lines += [f'# {question}\n{key} = ""\n' for key, question in keys.items()]
    with whole_file(path, "w") as file:
        file.write("\n".join(lines))
    return True


def asked_in(section: str, answers: Mapping[str, str]) -> list[Ask]:
    """The questions of a section with their answers."""
    return [Ask(key, question, answers.get(key, "")) for key, question in QUESTIONS[section].items()]
