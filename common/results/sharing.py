"""What an archive for others leaves out: paths of this machine, its name, its user, addresses of repositories."""

from __future__ import annotations

import re
import socket
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from common.cli import masked
from common.state import PROJECT, state_folder

LEFT_OUT = {"mlflow.user", "mlflow.source.git.repoURL", "host", "folder"}
"""Tags that are left out."""
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
ADDRESS = re.compile(
    r"\b(?:https?|ssh|git|s3|gs|postgresql|file)(?:\+\w+)?://[^\s\"'<>;,]*@[^\s\"'<>;,]*"
    r"|\b[\w.-]+@[\w.-]+:[\w./~-]+\.git\b"
)
"""An address with a user, or of a repository by SSH."""


class Shared:
    """Replaces what tells of a machine, in texts.

    Parameters
    ----------
    hosts : collection of str
        Names of the machines that a run was on, beside this one.
    """

    def __init__(self, hosts: Collection[str] = ()) -> None:
        self.hosts = {socket.gethostname(), socket.getfqdn(), *hosts} - {"", "localhost"}
        self.folders = {str(PROJECT): "PROJECT", str(state_folder()): "STATE", str(Path.home()): "HOME"}

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
        text = PATH.sub(lambda found: found[0] if found[0].startswith(SYSTEM) else f".../{found[1]}", text)
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
        if path.suffix not in TEXTS or path.stat().st_size > MOST:
            return path
        content = path.read_bytes()
        try:
            cleaned = self.text(content.decode())  # file names in tables are within the data
        except UnicodeDecodeError:
            return path
        return path if cleaned.encode() == content else cleaned.encode()
