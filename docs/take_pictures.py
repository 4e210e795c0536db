"""Takes the pictures of the README and the pages: python docs/take_pictures.py (needs Chromium, for the screenshots).

The runs come from this folder's results: step 4 is run where there is none.
"""

from __future__ import annotations

import base64
import io
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import websocket
from mlflow import MlflowClient
from PIL import Image, ImageChops

from common import cli, data, evaluation, plots, production, search, tracking
from common.tracking.store import open_store

DOCS = cli.PROJECT / "docs"
LESSON = cli.PROJECT / "step_3" / "lesson.ipynb"
LARGEST = 200_000
"""Bytes of a picture."""


def chromium() -> str:
    """Chromium's command."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    raise cli.UserError("chromium: not found; install it with: sudo apt install chromium")


class Browser:
    """A headless browser window, driven over its DevTools protocol."""

    def __init__(self, width: int, height: int) -> None:
        self.folder = tempfile.mkdtemp()
        quiet = ["gpu", "quic", "background-networking", "component-update", "sync", "extensions", "default-apps"]
        flags = ["--headless", "--no-sandbox", "--no-first-run", "--hide-scrollbars", "--remote-debugging-port=0"]
        flags += [f"--disable-{feature}" for feature in quiet]
        command = [chromium(), *flags, f"--user-data-dir={self.folder}", f"--window-size={width},{height}"]
        self.process = subprocess.Popen([*command, "about:blank"], stderr=subprocess.DEVNULL)
        active = Path(self.folder) / "DevToolsActivePort"
        while not (active.exists() and "\n" in active.read_text()):
            if self.process.poll() is not None:
                raise cli.UserError(f"chromium ended at once with exit code {self.process.returncode}")
            time.sleep(0.1)
        with urllib.request.urlopen(f"http://127.0.0.1:{active.read_text().split()[0]}/json/list") as answer:
            page = next(each for each in json.load(answer) if each["type"] == "page")
        self.socket = websocket.create_connection(page["webSocketDebuggerUrl"], timeout=120, suppress_origin=True)
        self.calls = 0
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def call(self, method: str, **parameters: object) -> dict:
        """One call of the protocol, and its result."""
        self.calls += 1
        self.socket.send(json.dumps({"id": self.calls, "method": method, "params": parameters}))
        while (answer := json.loads(self.socket.recv())).get("id") != self.calls:
            pass
        return answer["result"]

    def tell(self, script: str) -> object:
        """The value of a script in the page."""
        return self.call("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

    def before(self, script: str) -> None:
        """Run a script in every page before its own."""
        self.call("Page.enable")
        self.call("Page.addScriptToEvaluateOnNewDocument", source=script)

    def open(self, address: str, shown: str, seconds: float = 120) -> None:
        """Open a page, wait until the script `shown` is true in it, and a moment for what moves."""
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=address)
        end = time.monotonic() + seconds
        while not self.tell(shown):
            if time.monotonic() > end:
                raise cli.UserError(f"{address} never came to: {shown}")
            time.sleep(0.2)
        time.sleep(3)

    def shoot(self, name: str) -> None:
        """Save what the window shows."""
        png = base64.b64decode(self.call("Page.captureScreenshot")["data"])
        save(Image.open(io.BytesIO(png)), name)


def save(picture: Image.Image, name: str) -> None:
    """Save a picture as a PNG with a palette, without the empty border at its lower edge."""
    picture = picture.convert("RGB")
    background = Image.new("RGB", picture.size, picture.getpixel((picture.width - 1, picture.height - 1)))
    box = ImageChops.difference(picture, background).getbbox()
    if box:
        picture = picture.crop((0, 0, picture.width, min(picture.height, box[3] + 12)))
    for colours in (256, 128, 64, 32):
        content = io.BytesIO()
        picture.quantize(colours, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
            content, "PNG", optimize=True
        )
        if content.tell() <= LARGEST:
            break
    (DOCS / name).write_bytes(content.getvalue())
    print(f"docs/{name}: {picture.width} x {picture.height}, {content.tell() // 1000} kB")


@contextmanager
def mlflow_ui():
    """The tracking UI on a free port; gives its address."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    command = ["bash", cli.PROJECT / "run_mlflow_ui.bash", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while True:
            if process.poll() is not None:
                raise cli.UserError(f"run_mlflow_ui.bash {port} ended with exit code {process.returncode}")
            try:
                urllib.request.urlopen(f"{address}/health")
                break
            except urllib.error.URLError:
                time.sleep(0.5)
        yield address
    finally:
        process.terminate()
        process.wait()


def finished_run(run_id: str | None) -> tracking.Run:
    """A finished run of step 4: the one named, or the newest, made where there is none."""
    try:
        return tracking.find_run("step_4", run_id)
    except cli.UserError:
        if run_id is not None:
            raise
        subprocess.run([sys.executable, cli.PROJECT / "step_4" / "train.py"], check=True)
        return tracking.find_run("step_4")


def contact_sheet(rows: int = 4, columns: int = 5, side: int = 128) -> Image.Image:
    """Drawn cats in the upper half, dogs in the lower one."""
    table = data.load_images("drawn", side)
    chosen = []
    for label in (0, 1):
        of_class = np.flatnonzero(table.labels == label)
        chosen += [of_class[round(i)] for i in np.linspace(0, len(of_class) - 1, rows * columns // 2)]
    sheet = Image.new("RGB", (columns * (side + 4) - 4, rows * (side + 4) - 4), "white")
    for place, index in enumerate(chosen):
        tile = Image.fromarray(table.pixels[index].transpose(1, 2, 0))
        sheet.paste(tile, (place % columns * (side + 4), place // columns * (side + 4)))
    return sheet


def result(run: tracking.Run) -> Image.Image:
    """Some of the images, the ROC curve and the spread over the folds, side by side."""
    predictions, results = run.read_table("predictions.csv"), run.read_table("results.csv")
    drawn = [plots.roc_plot(predictions, evaluation.classes_of(predictions)), plots.fold_plot(predictions, results)]
    parts = [contact_sheet(), *(Image.open(io.BytesIO(plot.png())).convert("RGB") for plot in drawn)]
    height = 460
    parts = [
        part.resize((round(part.width * height / part.height), height), Image.Resampling.LANCZOS) for part in parts
    ]
    whole = Image.new("RGB", (sum(part.width for part in parts) + 24 * (len(parts) - 1), height), "white")
    left = 0
    for part in parts:
        whole.paste(part, (left, 0))
        left += part.width + 24
    return whole


def runs_table(run: tracking.Run) -> str:
    """A script that makes the UI's table of runs open with the run's tree and its scores."""
    inside = run.client.search_runs([run.experiment_id], f"tags.`mlflow.parentRunId` = '{run.run_id}'")
    first = min(inside, key=lambda child: child.info.start_time).info.run_id
    state = {
        "orderByKey": "attributes.start_time",
        "runsExpanded": {run.run_id: True, first: True},
        "selectedColumns": ["attributes.`Models`", "metrics.`mean_dev_roc_auc`", "metrics.`test_roc_auc`"],
    }
    key = f'MLflowLocalStorage-1.1-ExperimentPage-["{run.experiment_id}"]-ReactComponentState'
    return f"localStorage.setItem({json.dumps(key)}, {json.dumps(json.dumps(state))})"


def last_phase(run: tracking.Run) -> str:
    """The fine-tuning that the run did last."""
    info = run.client.get_run(run.run_id).info
    during = f"attributes.start_time >= {info.start_time} and attributes.start_time <= {info.end_time}"
    return run.client.search_runs([run.experiment_id], f"tags.phase = 'fine-tuning' and {during}")[0].info.run_id


def shoot_ui(run: tracking.Run) -> None:
    """The table of runs, and the learning curves of one fine-tuning."""
    with mlflow_ui() as ui, Browser(1300, 900) as browser:
        browser.before("localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true')")
        browser.before(runs_table(run))
        experiment = f"{ui}/#/experiments/{run.experiment_id}/runs"
        training = "workflowType=machine_learning"
        browser.open(f"{experiment}?{training}", "document.body.innerText.includes('trial 0')")
        browser.shoot("mlflow_runs.png")
        curves = "document.querySelectorAll('.js-plotly-plot .main-svg').length > 5"
        browser.open(f"{experiment}/{last_phase(run)}/model-metrics?{training}", curves)
        browser.tell("document.querySelectorAll('.modebar').forEach(bar => bar.remove())")
        browser.shoot("mlflow_run.png")


def shoot_lesson() -> None:
    """A lesson as a web page, at its first picture."""
    with tempfile.TemporaryDirectory() as folder, Browser(1000, 1000) as browser:
        command = ["-m", "nbconvert", "--to", "html", "--output-dir", folder, "--output", "lesson", LESSON]
        subprocess.run([sys.executable, *command], check=True, capture_output=True)
        browser.open((Path(folder) / "lesson.html").as_uri(), "document.readyState == 'complete'")
        browser.tell("document.querySelector('img[src^=\"data:image\"]').scrollIntoView({block: 'center'})")
        browser.shoot("lesson.png")


def search_run() -> tracking.Run:
    """The run of the brain images whose model is in production; made where there is none."""
    address, _ = open_store("step_5")
    try:
        production.production_version("brain_cnn")
    except cli.UserError:
        script = cli.PROJECT / "step_5" / "train.py"
        subprocess.run([sys.executable, script, script.parent / "configs" / "brain_cnn.py"], check=True)
    version = MlflowClient(address).get_model_version_by_alias("brain_cnn", "production")
    return tracking.find_run("step_5", version.run_id)


def shoot_search(run: tracking.Run) -> None:
    """The upper part of the page that sums up a search."""
    with tempfile.TemporaryDirectory() as folder, Browser(1200, 1130) as browser:
        studies = search.studies_of(run, run.read_table("results.csv")["root_split"])
        score = f"dev {evaluation.SCORES[tracking.setting_of(run, 'score')]}"
        plots.save_study_plots(studies, Path(folder), score)
        browser.open((Path(folder) / "index.html").as_uri(), "document.readyState == 'complete'")
        browser.shoot("search.png")


def main() -> None:
    flags = cli.parser(__doc__)
    flags.add_argument("--run-id", metavar="ID", help="a finished root run of step 4 (default: the newest)")
    args = flags.parse_args()
    chromium()
    run = finished_run(args.run_id)
    save(result(run), "result.png")
    shoot_ui(run)
    shoot_search(search_run())
    if LESSON.exists():
        shoot_lesson()


if __name__ == "__main__":
    cli.run(main)
