"""What an archive for others leaves out: names of images and of groups, paths, machines, users, addresses."""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import socket
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from common.cli import masked
from common.state import PROJECT, state_folder

LEFT_OUT = {"mlflow.user", "mlflow.source.git.repoURL", "host", "folder", "recorded"}
"""Tags that are left out; test predictions without the names of their images are not those on the record."""
PREDICTIONS = "predictions.csv"
WITHHELD = ("/audit/audit.html", "/audit/audit.json", "/provenance/not_recorded.txt", "/example.png")
"""Artifacts that are left out, as they show images or name files."""
TEXTS = {  # kinds of files that are searched
    ".txt",
    ".json",
    ".jsonl",
    ".csv",
    ".diff",
    ".yaml",
    ".yml",
    ".md",
    ".html",
    ".log",
    ".py",
    ".cfg",
    ".toml",
    "",
}
MOST = 1 << 26
"""Bytes of the largest text that is searched."""
SYSTEM = ("/bin/", "/dev/", "/etc/", "/lib", "/proc/", "/sys/", "/usr/")
_NAME = r"[^\s/\\\"'`,;:()<>\[\]{}|*?]"
_TOP, _START = r"(?P<top>STATE|PROJECT|HOME)", r"~?/|(?:[A-Za-z]:|\\)[/\\]"
PATH = re.compile(rf"(?<![\w.:/<>])(?:{_TOP}/|{_START})(?:{_NAME}+[/\\]+)+(?P<last>{_NAME}*)")
"""A path of a folder in a folder, or deeper, from the top of the disk or of a folder with a name here."""
QUOTED = re.compile(
    rf"""(?P<quote>["']|\A)(?P<flag>--[\w-]+=)?(?:{_TOP}(?: [^"'/\n]*)?/|{_START})"""
    r"""[^"'\n]*[/\\](?P<last>[^"'/\\\n]*)(?P=quote)(?!\w)"""
)
"""The same as a whole text, as the value of a flag, or in quotes, where it may hold spaces."""
FILE = re.compile(rf"(?P<kind>file|sqlite):/{{1,4}}+(?:{_TOP}/)?+[^\s\"'<>;,]*/(?P<last>[^\s\"'<>;,/]*)")
"""The address of a file."""
TOKEN = re.compile(r"""[^\s"',;:<>()\[\]{}|=]+""")
ADDRESS = re.compile(
    r"\b(?:https?|ssh|git|s3|gs|postgresql|file)(?:\+\w+)?://[^\s\"'<>;,]*@[^\s\"'<>;,]*"
    r"|\b[\w.-]+@[\w.-]+:[\w./~-]+\.git\b"
)
"""An address with a user, or of a repository by SSH."""


class Shared:
    """Replaces what tells of people and machines, in texts.

    Images become ``image-1``, ``image-2``, … and groups ``group-1``, …, each the same wherever it stands, in an order
    that tells nothing. A name with a space is replaced in predictions alone.

    Parameters
    ----------
    hosts : collection of str
        Names of the machines that a run was on, beside this one.
    predictions : sequence of Path
        All tables of predictions.
    """

    def __init__(self, hosts: Collection[str] = (), predictions: Sequence[Path] = ()) -> None:
        self.names: dict[str, dict[str, str]] = {}
        for column in ("file", "group"):
            found = sorted({name for path in predictions for name in _table(path).get(column, ())} - {""})
            secrets.SystemRandom().shuffle(found)
            kind = column.replace("file", "image")
            self.names[column] = {name: f"{kind}-{number}" for number, name in enumerate(found, 1)}
        self.images = {Path(name).name: now for name, now in self.names["file"].items()} | self.names["file"]
        self.hosts = {socket.gethostname(), socket.getfqdn(), *hosts} - {"", "localhost"}
        named = {PROJECT: "PROJECT", state_folder(): "STATE", Path.home(): "HOME"}
        self.folders = {text: name for path, name in named.items() for text in (str(path), quote(str(path)))}

    def text(self, text: str) -> str:
        """A text without them; of a path its last part stays. What lies in folders of the system is no secret."""
        if text.startswith(("{", "[")):
            with contextlib.suppress(ValueError, RecursionError):
                found = json.loads(text)
                cleaned = self.cleaned(found, keys=True)
                return text if cleaned == found else json.dumps(cleaned)
        text = ADDRESS.sub("ADDRESS", masked(text))
        for folder in sorted(self.folders, key=len, reverse=True):
            if len(folder) > 1:
                text = re.sub(rf"(?<![\w.~-]){re.escape(folder)}(?!{_NAME})", self.folders[folder], text)
        for kind in (QUOTED, FILE, PATH):
            text = kind.sub(_last_part, text)
        if self.images:
            text = TOKEN.sub(lambda found: self.images.get(found[0], found[0]), text)
        for host in self.hosts:
            text = re.sub(rf"(?<![\w.-]){re.escape(host)}(?![\w-])", "HOST", text)
        return text

    def cleaned(self, value: Any, keys: bool = False) -> Any:
        """As :meth:`text` of all texts in lists and dicts, and of their keys only if asked for."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(key) if keys else key: self.cleaned(each, keys) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self.cleaned(each, keys) for each in value]
        return value

    def of_run(self, run: Mapping[str, Any]) -> dict[str, Any]:
        """A run, as a dict, without user and what tags say of the machine; its metrics are numbers."""
        tags = {key: self.cleaned(value) for key, value in run["tags"].items() if key not in LEFT_OUT}
        return {
            **run,
            "user": "",
            "tags": tags,
            "params": self.cleaned(run["params"]),
            "inputs": self.cleaned(run["inputs"]),
        }

    def file(self, path: Path) -> Path | bytes:
        """A file, or its cleaned text where it is one."""
        if path.name == PREDICTIONS:
            table = _table(path)
            for column in self.names.keys() & set(table):
                table[column] = table[column].map(lambda name, names=self.names[column]: names.get(name, ""))
            return table.to_csv(index=False, lineterminator="\n").encode()
        if path.suffix not in TEXTS or path.stat().st_size > MOST:
            return path
        content = path.read_bytes()
        try:
            lines = content.decode().split("\n") if path.suffix == ".jsonl" else [content.decode()]
            cleaned = "\n".join(map(self.text, lines))
        except UnicodeDecodeError:
            return path
        return path if cleaned.encode() == content else cleaned.encode()


def _last_part(found: re.Match[str]) -> str:
    parts = found.groupdict("")
    if found[0].lstrip("\"'").startswith(SYSTEM):
        return found[0]
    before = parts.get("quote", "") + parts.get("flag", "") + (f"{parts['kind']}:" if "kind" in parts else "")
    top = f"{parts['top']}/" if parts["top"] else ""
    return f"{before}{top}.../{parts['last']}{parts.get('quote', '')}"


def _table(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype=str, keep_default_na=False)
