"""A headless Chromium, and the script that looks in it for what keeps people from using a page."""

import importlib.util
import os
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def chromium(profile):
    """A browser that fetches nothing but what it is sent to; the test is skipped where there is none."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    program, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("there is no Chromium with its chromedriver (apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    options.binary_location = program
    quiet = ["gpu", "background-networking", "component-update", "sync", "extensions", "default-apps", "dev-shm-usage"]
    for flag in ["headless=new", "no-sandbox", "no-first-run", *(f"disable-{feature}" for feature in quiet)]:
        options.add_argument(f"--{flag}")
    options.add_argument("--window-size=1400,900")
    options.add_argument(f"--user-data-dir={profile}")
    browser = webdriver.Chrome(options, Service(driver, env=os.environ | {"SE_OFFLINE": "true"}))
    yield browser
    browser.quit()


def axe_core():
    """The script of axe-core, as a package that we do not import holds it."""
    spec = importlib.util.find_spec("axe_playwright_python")
    return (Path(spec.origin).parent / "axe.min.js").read_text()
