"""Each lesson in JupyterLab and a real browser, as a learner goes through it: cell by cell, typing.

``SCREENSHOTS=FOLDER`` keeps pictures of it.
"""

import os
import re
import subprocess
import time
from itertools import pairwise

import nbformat
import pytest
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait
from test_where_it_runs import jupyter_lab

from conftest import PROJECT

ASKED = "type your prediction in place of None, then run this cell again"
WRONG = {  # what is typed, and what the hint names
    "1.1": (
        '{"fit the weights": "train", "stop early": "test", "choose the threshold": "dev", "report the score": "test"}',
        "too high",
    ),
    "1.2": ("lambda groups, learn, test: set(learn) & set(test)", "never on both sides"),
    "1.3": ("lambda labels, probabilities: 0.5", "0.5 whatever the data"),
    "1.4": ('{"A", "B", "C"}', "random_fold"),
    "1.5": ("lambda seed, folder: 0.9", "does the seed reach"),
    "2.1": ("\"params.seed = '1'\"", "has not finished"),
    "2.2": ("lambda stream, epoch, n: stream.numpy().permutation(n)", "is the epoch in the name"),
    "2.3": ("1275", "independent photos"),
    "2.4": (
        "lambda table, k, stream: StratifiedGroupKFold(k).split(table.files, table.labels, table.groups)",
        "where is the stream used",
    ),
    "3.1": ("(8, 3)", "nested"),
    "3.2": ("(min(SCORES), max(SCORES))", "range of the single scores"),
    "3.3": ("lambda fold, groups: set(groups[fold.train]) & set(groups[fold.test])", "are torn too"),
    "3.4": ("lambda dev, test: test.mean(axis=1).max()", "by the test scores"),
    "4.1": ("(0.825, True)", "mean so far"),
    "4.2": ("0.93", "one standard deviation"),
    "4.3": ("0.05", "convention"),
    "4.4": ("lambda trial: TrainingConfig()", "Nothing is asked"),
    "5.1": ('"rotation"', "from the top"),
    "5.2": ("exercises_5.CHOICE", "still holds"),
    "5.3": ('cli.PROJECT / "step_5" / "configs" / "optimizers.py"', "of the project"),
    "5.4": ('"drawn"', "comes with the project"),
}
BAD = """
const shown = [...arguments[0].querySelectorAll(".jp-OutputArea-output, .jp-MarkdownOutput")];
const pictures = [...arguments[0].querySelectorAll("img")].filter((e) => !/^https:/.test(e.src));
return [
    ...shown.filter((e) => /error|stderr/.test(e.dataset.mimeType)).map((e) => e.textContent),
    ...shown.filter((e) => e.scrollWidth > e.clientWidth + 1).map((e) => "too wide: " + e.textContent),
    ...pictures.filter((e) => !e.naturalWidth).map((e) => "no picture: " + e.src),
].map((text) => text.slice(0, 400));
"""


class Notebook:
    """A notebook that is open in JupyterLab, with the keys and the mouse."""

    def __init__(self, browser, address, n_cells):
        self.browser, self.wait, self.count, self.seconds = browser, WebDriverWait(browser, 240), 0, 0.0
        browser.get(address)
        self.wait.until(lambda _: len(self.find(".jp-Notebook .jp-Cell")) == n_cells)
        self.wait.until(lambda _: self.find(".jp-Notebook-ExecutionIndicator[data-status=idle]"))
        self.cells = self.find(".jp-Notebook .jp-Cell")

    def find(self, css):
        return self.browser.find_elements(By.CSS_SELECTOR, css)

    def press(self, key, held):
        ActionChains(self.browser).key_down(held).send_keys(key).key_up(held).perform()

    def said(self, cell, css=".jp-OutputArea-output"):
        script = "return [...arguments[0].querySelectorAll(arguments[1])].map((e) => e.textContent).join('')"
        return self.browser.execute_script(script, cell, css)

    def number(self, cell):
        """How many cells the kernel had run when it ran this one; 0 while it has not."""
        return int((re.search(r"\[(\d+)\]", self.said(cell, ".jp-InputPrompt")) or [0, 0])[1])

    def run(self, cell, held=Keys.SHIFT):
        """Press Shift-Enter, wait for the end, and return what is shown."""
        started = time.perf_counter()
        self.press(Keys.ENTER, held)
        self.wait.until(lambda _: self.number(cell) > self.count)
        self.count, self.seconds = self.number(cell), self.seconds + time.perf_counter() - started
        return self.said(cell)

    def type_in_place_of_none(self, cell, text):
        none = cell.find_element(By.XPATH, ".//*[contains(@class, 'cm-line')]//span[text()='None']")
        none.click()
        self.press(Keys.ARROW_RIGHT, Keys.CONTROL)  # to the end of the word
        ActionChains(self.browser).send_keys(4 * Keys.BACKSPACE, text).perform()

    def paste_in_place_of_all(self, text):
        ActionChains(self.browser).send_keys(Keys.ENTER).perform()
        self.press("a", Keys.CONTROL)
        self.browser.execute_cdp_cmd("Input.insertText", {"text": text})

    def keep_pictures(self, name):
        if folder := os.environ.get("SCREENSHOTS"):
            panel = self.find(".jp-WindowedPanel-outer")[0]
            for page in range(int(panel.get_property("scrollHeight") / panel.get_property("clientHeight")) + 1):
                script = "arguments[0].scrollTop = arguments[1] * (arguments[0].clientHeight - 20)"
                self.browser.execute_script(script, panel, page)
                time.sleep(0.5)
                self.browser.save_screenshot(f"{folder}/{name}-{page:02d}.png")


@pytest.fixture
def clone(tmp_path):
    """The project as it stands, in a folder of its own: JupyterLab saves what is typed."""
    folder = tmp_path / "project"
    subprocess.run(["git", "clone", "--quiet", PROJECT, folder], check=True)
    if changed := subprocess.check_output(["git", "diff", "--binary", "HEAD"], cwd=PROJECT):
        subprocess.run(["git", "apply"], cwd=folder, input=changed, check=True)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("step", range(1, 6))
def test_a_learner_predicts_answers_wrong_and_right_and_meets_no_error(step, clone, browser, tmp_path):
    cells = nbformat.read(clone / f"step_{step}" / "lesson.ipynb", as_version=4).cells
    solved = [c.source for c in nbformat.read(clone / f"step_{step}" / "solutions.ipynb", as_version=4).cells]
    with jupyter_lab(tmp_path, project=clone) as (_, address):
        book = Notebook(browser, address.replace("/lab?", f"/lab/tree/step_{step}/lesson.ipynb?"), len(cells))
        code = [i for i, cell in enumerate(cells) if cell.cell_type == "code"]
        asks, after = next((i, j) for i, j in pairwise(code) if "lesson.predict" in cells[i].source)
        browser.find_element(By.XPATH, "//*[@role='menubar']//*[text()='Run']").click()
        browser.find_element(By.CSS_SELECTOR, ".lm-Menu-item[data-command='runmenu:run-all']").click()
        book.wait.until(lambda _: ASKED in book.said(book.cells[asks]))
        assert "Traceback" not in book.said(book.cells[asks])
        book.count = book.number(book.cells[asks])
        assert not book.number(book.cells[after]) and not book.said(book.cells[after])

        browser.execute_script("document.querySelector('.jp-WindowedPanel-outer').scrollTop = 0")
        book.cells[0].find_element(By.CSS_SELECTOR, "h1").click()
        for cell, element in zip(cells, book.cells, strict=True):
            assert "jp-mod-active" in element.get_attribute("class"), cell.id
            if cell.cell_type == "markdown":
                book.press(Keys.ENTER, Keys.SHIFT)
            elif exercise := re.search(r"lesson\.answer\(\"(.+?)\"", cell.source):
                typed, misconception = WRONG[exercise[1]]
                book.type_in_place_of_none(element, typed)
                said = book.run(element, Keys.CONTROL)
                assert f"exercise {exercise[1]}: not yet. " in said and misconception in said, said
                (right,) = (source for source in solved if exercise[0] in source)
                book.paste_in_place_of_all(right.replace("assert ", ""))
                assert f"exercise {exercise[1]}: right" in book.run(element)
            elif guess := re.search(r"^\w+ = None  # (.+)\nlesson\.predict", cell.source, re.MULTILINE):
                (typed,) = re.findall(r"\".+?\"|[\d.]+", guess[1])[:1] or ["1"]
                book.type_in_place_of_none(element, typed)
                assert "your prediction: " + typed.strip('"') in book.run(element), cell.id
            else:
                said = book.run(element)
                assert "lesson.compare" not in cell.source or "you predicted " in said, cell.id
                pictures = sum("image/" in " ".join(output.get("data", ())) for output in cell.outputs)
                assert len(element.find_elements(By.CSS_SELECTOR, ".jp-OutputArea-output img")) >= pictures, cell.id
        print(f"lesson {step}: {book.seconds:.0f} s in cells")
        book.keep_pictures(step)
        bad = {cell.id: browser.execute_script(BAD, element) for cell, element in zip(cells, book.cells, strict=True)}
        assert {name: found for name, found in bad.items() if found} == {}

        for folded in (".jp-MarkdownOutput summary", ".jp-OutputArea-output summary"):
            (summary, *_) = book.find(folded)
            summary.click()
            assert len(summary.find_element(By.XPATH, "..").text) > len(summary.text) + 100
        book.find(".jp-MarkdownOutput a[href*='glossary']")[0].click()
        terms = re.findall(r"glossary\.md#([\w-]+)", "".join(cell.source for cell in cells))
        book.wait.until(lambda _: book.find(".jp-MarkdownViewer h3"))
        places = {place.get_attribute("data-jupyter-id") for place in book.find(".jp-MarkdownViewer [data-jupyter-id]")}
        assert set(terms) - places == set()
