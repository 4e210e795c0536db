"""What an archive for others leaves out: names of images and of groups, paths, machines, users, addresses."""

from __future__ import annotations

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
PATH = re.compile(rf"(?<![\w.:/<>])(?:~|[A-Za-z]:)?[/\\](?:{_NAME}+[/\\])+({_NAME}*)")
"""An absolute path of a folder in a folder, or deeper."""
QUOTED = re.compile(r"""(?P<quote>["']|\A)(?:~|[A-Za-z]:)?[/\\][^"'\n]*[/\\]([^"'/\\\n]*)(?P=quote)(?=\Z|[^\w])""")
"""The same as a whole text or in quotes, where it may hold spaces."""
FILE = re.compile(r"file:/{1,3}+(?!STATE|PROJECT|HOME)[^\s\"'<>;,]*/([^\s\"'<>;,/]*)")
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
        text = ADDRESS.sub("ADDRESS", masked(text))
        for folder in sorted(self.folders, key=len, reverse=True):
            if len(folder) > 1:
                text = text.replace(folder, self.folders[folder])
        text = QUOTED.sub(
            lambda found: (
                found[0] if found[0].strip("\"'").startswith(SYSTEM) else f"{found[1]}.../{found[2]}{found[1]}"
            ),
            text,
        )
        text = FILE.sub(r"file:.../\1", text)
        text = PATH.sub(lambda found: found[0] if found[0].startswith(SYSTEM) else f".../{found[1]}", text)
        if self.images:
            text = TOKEN.sub(lambda found: self.images.get(found[0], found[0]), text)
        for host in self.hosts:
            text = re.sub(rf"(?<![\w.-]){re.escape(host)}(?![\w-])", "HOST", text)
        return text

    def cleaned(self, value: Any) -> Any:
        """As :meth:`text` of all texts in lists and dicts, but their keys."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {key: self.cleaned(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self.cleaned(each) for each in value]
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
            cleaned = self.text(content.decode())
        except UnicodeDecodeError:
            return path
        return path if cleaned.encode() == content else cleaned.encode()


def _table(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype=str, keep_default_na=False)
