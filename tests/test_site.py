"""The website, and what says who may use the project: each page is there, each link leads somewhere, offline."""

import json
import os
import re
import subprocess
import sys
import tomllib
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from browsing import axe_core

from conftest import PROJECT

TOOLS = Path(sys.executable).parent
CONTENTS = re.findall(r"^- \[.+?\]\((.+?)\)", (PROJECT / "docs" / "contents.md").read_text(), re.MULTILINE)
PAGES = {(PROJECT / "docs" / page).resolve().relative_to(PROJECT).as_posix() for page in CONTENTS}
PYPROJECT = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
ADDRESS = PYPROJECT["urls"]["Repository"]
AXE = "axe.run({resultTypes: ['violations']}).then(arguments[0])"
TESTS = ("pretest", "posttest")


def notebook(path):
    """The text of all cells."""
    return "\n".join("".join(cell["source"]) for cell in json.loads((PROJECT / path).read_text())["cells"])


# ---- what is written


def test_the_contents_list_every_page_and_lesson_and_nothing_else():
    patterns = ("*.md", "docs/*.md", "step_*/lesson.ipynb", "step_5/your_data_and_model.md", "run_on_colab.ipynb")
    there = {path.relative_to(PROJECT).as_posix() for pattern in patterns for path in PROJECT.glob(pattern)}
    assert there - {"README.md", "report.md"} == PAGES  # a report that somebody has made here


def test_the_readme_is_short():
    assert len((PROJECT / "README.md").read_text().splitlines()) <= 120


@pytest.mark.parametrize("path", sorted(page for page in PAGES if page.endswith(".ipynb")))
def test_a_badge_opens_its_own_notebook_in_colab_and_colab_gets_the_project(path):
    text = notebook(path)
    colab = ADDRESS.replace("https://github.com/", "https://colab.research.google.com/github/")
    assert re.findall(r'href="(https://colab[^"]+)"', text) == [f"{colab}/blob/main/{path}"]
    assert re.findall(r'(?:git clone --quiet |repository = ")(https:[^\s"]+)', text) == [ADDRESS]


def test_the_colab_notebook_leads_to_every_lesson():
    colab = ADDRESS.replace("https://github.com/", "https://colab.research.google.com/github/")
    linked = re.findall(r"\]\((https://colab[^)]+)\)", notebook("run_on_colab.ipynb"))
    assert linked == [f"{colab}/blob/main/step_{step}/lesson.ipynb" for step in range(1, 6)]


def test_citation_and_workflows_keep_to_their_schemas_and_licence_version_and_address_are_those_of_the_package():
    for schema, pattern in (("citation-file-format", "CITATION.cff"), ("github-workflows", ".github/workflows/*.yml")):
        files = [str(path) for path in PROJECT.glob(pattern)]
        command = [TOOLS / "check-jsonschema", "--builtin-schema", f"vendor.{schema}", *files]
        done = subprocess.run(command, capture_output=True, text=True)
        assert files and done.returncode == 0, done.stdout
    citation = (PROJECT / "CITATION.cff").read_text()
    said = {key: re.search(rf"^{key}: (.+)$", citation, re.MULTILINE)[1] for key in ("license", "version")}
    assert said == {key: PYPROJECT[key] for key in said}
    assert re.search(r"^repository-code: (.+)$", citation, re.MULTILINE)[1] == ADDRESS
    assert "Apache License\n                           Version 2.0" in (PROJECT / "LICENSE").read_text()


def test_both_tests_have_ten_questions_of_five_choices_and_the_key_names_one_of_each():
    rows = re.findall(
        r"^\| (\d+) \| .+? \| [\d, ]+ \| ([a-d]) \| ([a-d]) \|", (PROJECT / "docs" / "key.md").read_text(), re.M
    )
    assert [int(number) for number, *_ in rows] == list(range(1, 11))
    for column, test in enumerate(TESTS, 1):
        parts = re.split(r"^## (\d+)$", (PROJECT / "docs" / f"{test}.md").read_text(), flags=re.MULTILINE)
        assert parts[1::2] == [number for number, *_ in rows]
        assert all(re.findall(r"^- ([a-z])\) ", part, re.MULTILINE) == list("abcde") for part in parts[2::2])
        assert {row[column] for row in rows} == set("abcd"), "guessing one letter throughout gains little"


# ---- the built site


class Links(HTMLParser):
    """Where a page leads, what it loads, and which places it has."""

    def __init__(self, page):
        super().__init__()
        self.leads, self.loads, self.places = set(), set(), {""}
        self.feed(page.read_text())

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.places |= {values[key] for key in ("id", "name") if values.get(key)}
        if tag == "a" and values.get("href"):
            self.leads.add(values["href"])
        kept = tag in ("script", "img", "iframe", "source") or "stylesheet" in values.get("rel", "")
        self.loads |= {values[key] for key in ("src", "href") if kept and values.get(key)}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [TOOLS / "sphinx-build", "-EWq", "--keep-going", "-c", "docs", ".", folder]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return folder


@pytest.fixture(scope="module")
def pages(site):
    return {page: Links(page) for page in site.glob("**/*.html") if "_static" not in page.parts}


@pytest.mark.slow
def test_the_site_has_every_page_and_loads_nothing_from_elsewhere(site, pages):
    wanted = {site / "index.html", *(site / Path(page).with_suffix(".html") for page in PAGES)}
    assert wanted <= set(pages)
    loaded = {load for page in wanted for load in pages[page].loads if not load.startswith("data:")}
    assert loaded and [load for load in loaded if urlsplit(load).netloc] == []
    styles = "\n".join(path.read_text() for path in site.glob("_static/**/*.css"))
    assert re.findall(r"(?:url\(|@import)\s*['\"]?(?:https?:)?//[^)'\"]+", styles) == []


@pytest.mark.slow
def test_each_link_within_the_site_leads_to_a_place_that_is_there(pages):
    lost = []
    for page, links in pages.items():
        for link in links.leads:
            address = urlsplit(link)
            if not (address.scheme or address.netloc):
                target = (page.parent / unquote(address.path)).resolve() if address.path else page
                place = unquote(address.fragment)
                if not target.is_file() or (target in pages and place not in pages[target].places):
                    lost.append(f"{page.name}: {link}")
    assert lost == []


@pytest.mark.slow
def test_in_a_browser_no_page_is_wider_than_the_window_and_axe_finds_nothing_serious(site, pages, browser):
    judged = {"index.html", "step_1/lesson.html", "docs/glossary.html", "docs/reference.html", "docs/teaching.html"}
    wide, found = [], []
    browser.set_script_timeout(120)
    for width in (390, 1280):
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 800}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        for page in sorted(pages):
            name = page.relative_to(site).as_posix()
            browser.get(page.as_uri())
            if (needed := browser.execute_script("return document.documentElement.scrollWidth")) > width:
                wide.append((width, name, needed))
            if name in judged:
                browser.execute_script(axe_core())
                violations = browser.execute_async_script(AXE)["violations"]
                found += [
                    (width, name, one["id"], one["nodes"][0]["html"][:200])
                    for one in violations
                    if one["impact"] in ("serious", "critical")
                ]
                if folder := os.environ.get("SCREENSHOTS"):
                    browser.save_screenshot(f"{folder}/{width}-{page.stem}.png")
    assert (wide, found) == ([], [])
