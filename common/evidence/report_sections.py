"""The sections of a report about what was done: what was asked, data, audit, method, machine, code, repeats."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from datetime import UTC, datetime

from common.cli import escaped
from common.evidence.findings import CHECKS, counted
from common.evidence.flow import PARTS, amount, flow_diagram, outer_folds
from common.evidence.statements import (
    RECORD,
    Block,
    Cell,
    Drawing,
    Evidence,
    Listing,
    Rows,
    Said,
    Sources,
    Table,
    Unsayable,
    sentence,
    told,
)
from common.tracking.identity import searched_all
from common.tracking.runs import PARENT, Run

MACHINE = ("device", "precision", "deterministic", "threads", "cpu", "cores", "memory_gib", "python", "platform")
CODE = ("git_commit", "git_dirty", "lock_sha256")
ABOUT_DATA = ("data_name", "data_fingerprint", "data_version", "data_version.path", "data_version.git_revision")
VERDICT = {"stop": "stops a run", "warn": "to be looked at", "note": "for information"}


def asked(evidence: Evidence) -> Iterator[Block]:
    """What a run was to do."""
    record = evidence.record
    script = f"{record['step']}/train.py" if record.get("step", "").startswith("step_") else record.get("step", "?")
    template = "The run {run} was made by {script}."
    yield sentence(template, evidence.sources(RECORD), run=evidence.run.run_id, script=script)
    if evidence.has("audit/flow.json"):
        flow = evidence.json("audit/flow.json")
        classes, n_classes = " and ".join(flow["classes"]), len(flow["classes"])
        template = "Networks were to tell {n} classes apart: {classes}."
        yield sentence(template, evidence.sources("audit/flow.json"), n=n_classes, classes=classes)


def data(evidence: Evidence) -> Iterator[Block]:
    """The data of a run, and how they went into folds."""
    source = evidence.sources(RECORD)
    yield _record_rows(evidence, "The data, as the run has recorded them", ABOUT_DATA, source)
    yield from told(lambda: _flow(evidence))


def _flow(evidence: Evidence) -> Iterator[Block]:
    flow, source = evidence.json("audit/flow.json"), evidence.sources("audit/flow.json")
    images, groups = flow["all"]
    if groups is None:
        template = "There are {images} images; nothing says which are of one patient or animal."
        yield sentence(template, source, images=images)
    else:
        template = "There are {images} images of {groups} groups: what must not be torn apart, as a patient or an "
        template += "animal."
        yield sentence(template, source, images=images, groups=groups)
    template = "{left_out} images were left out, as they cannot be read; {copies} have the pixels of another."
    yield sentence(template, source, left_out=flow["left_out"], copies=flow["copies"])
    classes = [[name, *_counts(count)] for name, count in flow["classes"].items()]
    yield Rows("Images of each class", ["class", "images", "groups"], classes, source)
    yield Drawing("How images and groups go into the folds", flow_diagram(flow), source)
    rows: Table = [
        [Cell(str(fold["root_split"]), fold["root_split"]), *(amount(fold[part]) for part in PARTS)]
        for fold in outer_folds(flow)
    ]
    heads = ["outer fold", "train (first inner fold)", "dev (first inner fold)", "test"]
    yield Rows("Images and groups in the folds that were run", heads, rows, source)


def _counts(count: list[int | None]) -> list[str | Cell]:
    return ["" if value is None else Cell(str(value), value) for value in count]


def _record_rows(evidence: Evidence, caption: str, names: tuple[str, ...], sources: Sources) -> Rows:
    rows: Table = [
        [name.replace("_", " "), Cell(value, value)] for name in names if (value := evidence.record.get(name))
    ]
    return Rows(caption, ["what", "value"], rows, sources)


def checks_made(evidence: Evidence) -> Iterator[Block]:
    """What the audit of a run's data found, and what a person has waived."""
    found, source = evidence.json("audit/audit.json"), evidence.sources("audit/audit.json")
    try:
        findings, waived, checks = found["findings"], found["waived"], found["checks"]
        stops = {one["check"] for one in findings if one["level"] == "stop"}
        template = "{n} checks of the data were made before training; {stops} found what makes results wrong"
        template += ", {waived} of these waived by a person." if stops else "."
        yield sentence(template, source, n=len(checks), stops=len(stops), waived=len(stops & set(waived)))
        rows = []
        for name, how in checks.items():
            levels = {one["level"] for one in findings if one["check"] == name}
            verdict = next((said for level, said in VERDICT.items() if level in levels), "passed")
            rows.append([name, CHECKS.get(name, ""), how, f"waived: {waived[name]}" if name in waived else verdict])
        yield Rows("Checks of the data", ["check", "looks for", "found", "verdict"], rows, source)
        for one in findings:
            yield Said(f"{one['check']}: {one['text']}", (), source)
    except (KeyError, TypeError, AttributeError) as error:
        raise Unsayable(f"artifact audit/audit.json of run {evidence.run.run_id} is no audit") from error


def waivers_of(evidence: Evidence) -> list[Block]:
    """What stands beside each claim: the checks that a person has waived, with the reasons."""

    def blocks() -> Iterator[Block]:
        waived = evidence.json("audit/audit.json").get("waived", {})
        for check, reason in waived.items():
            yield Said(f"A person has waived the check {check}: {reason}", (), evidence.sources("audit/audit.json"))

    return told(blocks)


def method(evidence: Evidence) -> Iterator[Block]:
    """How networks were made: settings, the network, what each search chose."""
    parts = evidence.identity.items()
    settings = {name.removeprefix("settings."): value for name, value in parts if name.startswith("settings.")}
    searches = _searches(evidence)
    searched = {name for found in searches for name in found.about.data.params}
    rows: Table = [
        [name, Cell(value, value)]
        for name, value in settings.items()
        if name not in searched and value not in ("None", "()")
    ]
    yield Rows("Settings that are set", ["setting", "value"], rows, evidence.sources(RECORD))
    if evidence.record.get("step", "").startswith("step_"):
        said = "Thresholds were chosen on the dev sets (the highest Youden index), and networks by their dev ROC AUC"
        yield Said(f"{said}; test images were predicted after that.")
    yield from told(lambda: _network(evidence))
    yield from _chosen(searches, settings)


def _network(evidence: Evidence) -> Iterator[Block]:
    name = f"model_summary_{evidence.run.run_id}.txt"
    yield Listing("The network", evidence.text(name), evidence.sources(name))


def _searches(evidence: Evidence) -> list[Evidence]:
    below = f"tags.`{PARENT}` = '{evidence.run.run_id}' and tags.run_level = 'root_split'"
    return [found for found in _below(evidence, below) if "best_trial" in found.about.data.params]


def _chosen(searches: list[Evidence], settings: dict[str, str]) -> Iterator[Block]:
    for found in searches:
        fold, params = found.about.data.tags["root_split"], found.about.data.params
        title = f"What the search of outer fold {fold} chose"
        if searched_all(settings, fold):
            title = "What the search on all images chose, for the registered model"
        rows: Table = [[name.replace("_", " "), Cell(value, value)] for name, value in sorted(params.items())]
        yield Rows(title, ["what", "value"], rows, found.sources(RECORD))


def _below(evidence: Evidence, which: str) -> list[Evidence]:
    run = evidence.run
    found = run.client.search_runs([run.experiment_id], which, order_by=["attributes.start_time"])
    return [Evidence(Run(run.uri, run.experiment_id, one.info.run_id)) for one in found]


def repeated(evidence: Evidence) -> Iterator[Block]:
    """What came out when a run was repeated with its own code, data and command."""
    below = f"tags.`{PARENT}` = '{evidence.run.run_id}' and tags.run_level = 'reproduction'"
    found = _below(evidence, f"{below} and attributes.status = 'FINISHED'")
    template = "The run was repeated {n} times."
    yield sentence(
        template if len(found) != 1 else "The run was repeated {n} time.", evidence.sources(RECORD), n=len(found)
    )
    for number, one in enumerate(found, 1):
        title = f"Repeat {number}: {one.about.data.tags.get('verdict', 'no verdict')}"
        yield Listing(title, one.text("reproduction.txt").strip(), one.sources("reproduction.txt"))


def machine(evidence: Evidence) -> Iterator[Block]:
    """On what a run was made, and how long it took."""
    source = evidence.sources(RECORD)
    start, end = (int(evidence.record[name]) / 1000 for name in ("start_time", "end_time"))
    when = datetime.fromtimestamp(start, UTC).isoformat(sep=" ", timespec="seconds").removesuffix("+00:00")
    template = "It began on {when} (UTC) and took {seconds:.0f} s."
    yield sentence(template, source, when=when, seconds=end - start)
    yield _record_rows(evidence, "The machine", MACHINE, source)


def code(evidence: Evidence) -> Iterator[Block]:
    """With which code and packages a run was made."""
    yield _record_rows(evidence, "The code", CODE, evidence.sources(RECORD))
    yield from told(lambda: _packages(evidence))


def _packages(evidence: Evidence) -> Iterator[Block]:
    packages, diff = "provenance/packages.txt", "provenance/uncommitted.diff"
    n_packages = len(evidence.text(packages).splitlines())
    yield sentence(
        "{n} packages were installed; their versions are recorded.", evidence.sources(packages), n=n_packages
    )
    n_lines = len(evidence.bytes_of(diff).splitlines())
    template = "{lines} lines of changes were not committed; they are recorded."
    yield sentence(template, evidence.sources(diff), lines=n_lines)


def again(evidence: Evidence) -> Iterator[Block]:
    """How to run it again."""
    record, run_id = evidence.record, evidence.run.run_id
    try:
        words = [escaped(str(word)) for word in json.loads(record["command"])]
    except (KeyError, ValueError, TypeError) as error:
        raise Unsayable(f"the command of run {run_id} is not recorded") from error
    ours = "bash run_script.bash python"
    lines = [
        f"git checkout {record.get('git_commit', '')}",
        f"{ours} {shlex.join(words)}",
        f"{ours} -m common.tracking.reproduce {run_id}",
    ]
    title = "The same code, the same command; and both at once, compared"
    yield Listing(title, "\n".join(lines), evidence.sources(RECORD))


def record_of_tests(evidence: Evidence) -> Iterator[Block]:
    """What the record says of the test predictions."""
    name = "ledger.jsonl"
    try:
        lines = [json.loads(line) for line in evidence.text(name).splitlines()]
        rows = [
            [Cell(str(line["fold"]), line["fold"]), line["time"], Cell(str(line["n_configs"]), line["n_configs"])]
            for line in sorted(lines, key=lambda line: line["fold"])
        ]
        most = max(line["n_configs"] for line in lines)
    except (ValueError, KeyError, TypeError) as error:
        raise Unsayable(f"artifact {name} of run {evidence.run.run_id} cannot be read") from error
    source = evidence.sources(name)
    template = "By then {most} configs had predicted these test images, this run's among them."
    if most == 1:
        template = "{most} config had predicted these test images by then, that of this run."
    yield sentence(template, source, most=most)
    heads = ["outer fold", "predicted (UTC)", "configs by then"]
    yield Rows(f"The record: {counted(len(rows), 'line')}", heads, rows, source)
