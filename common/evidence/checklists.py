"""Published checklists: which of their items a report fills, by the data file ``checklists.toml``."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

FILLED, PARTLY, OPEN = "filled", "partly", "to be filled"


@dataclass(frozen=True)
class Item:
    """An item of a checklist.

    Attributes
    ----------
    number, name : str
        As in the published form, and in our own words.
    sections : tuple of str
        Sections of the report that speak of it.
    keys : tuple of str
        Questions that only a person can answer for it.
    only_partly : bool
        Whether it asks for more than all of these say.
    """

    number: str
    name: str
    sections: tuple[str, ...]
    keys: tuple[str, ...]
    only_partly: bool

    def status(self, standing: Collection[str], answers: Mapping[str, str]) -> str:
        """How far a report fills it.

        Parameters
        ----------
        standing : collection of str
            Sections in which nothing is lacking.
        answers : mapping of str to str
        """
        parts = [section in standing for section in self.sections] + [bool(answers.get(key)) for key in self.keys]
        if not any(parts):
            return OPEN
        return FILLED if all(parts) and not self.only_partly else PARTLY


@dataclass(frozen=True)
class Form:
    """A published checklist: its name, where it is published, how its items were checked, and the items."""

    name: str
    source: str
    checked: str
    items: tuple[Item, ...]


def forms() -> list[Form]:
    """The checklists, in the order of the file."""
    with open(Path(__file__).with_name("checklists.toml"), "rb") as file:
        found = tomllib.load(file)["form"]
    return [Form(one["name"], one["source"], one["checked"], tuple(map(_item, one["items"]))) for one in found]


def _item(row: list[str]) -> Item:
    number, name, sections, keys = row
    return Item(number, name, tuple(sections.replace("~", "").split()), tuple(keys.split()), "~" in sections)
