"""Events for people to read: a line each, and on a terminal a progress bar for each run."""

from __future__ import annotations

import json
import sys

from tqdm import tqdm

from common.events.broker import VERSION, Message

PLACE = ("root_split", "trial", "inner_split")


class Display:
    """Shows events on a terminal: what each run has done of what it has to do; elsewhere their lines alone."""

    def __init__(self) -> None:
        self._bars: dict[str, tqdm] = {}
        self._begun: dict[str, set[tuple]] = {}
        self._units: dict[str, str] = {}

    def show(self, message: Message) -> None:
        """Take in one more event."""
        event = _event_of(message)
        tqdm.write(event if isinstance(event, str) else _line(event))
        sys.stdout.flush()
        if not isinstance(event, str):
            self._move(event["run_id"], event["kind"], event["payload"])

    def close(self) -> None:
        """Leave the bars as they are."""
        for bar in self._bars.values():
            bar.close()

    def _move(self, run_id: str, kind: str, payload: dict) -> None:
        """A run has fits, and counts those that have begun before the one of now; or one fit, and counts its epochs."""
        if kind == "run_started":
            self._bars.pop(run_id, tqdm(disable=True)).close()
            unit = "fits" if "fits" in payload else "epochs"
            self._bars[run_id] = tqdm(total=payload.get(unit), desc=run_id[:8], unit=unit[:-1], disable=None)
            self._units[run_id] = unit
            self._begun[run_id] = set()
        bar = self._bars.get(run_id)
        if bar is None:
            return
        if kind == "epoch":
            self._begun[run_id].add(tuple(payload.get(name) for name in PLACE))
            done = len(self._begun[run_id]) - 1 if self._units[run_id] == "fits" else payload.get("epoch", bar.n)
            bar.set_postfix_str(_values({name: payload[name] for name in payload if name not in (*PLACE, "run")}))
            bar.update(max(0, done - bar.n))
        elif kind == "run_ended":
            if payload.get("status") == "FINISHED" and bar.total:
                bar.update(bar.total - bar.n)
            bar.set_postfix_str(str(payload.get("status", "")))
            self._bars.pop(run_id).close()


def _event_of(message: Message) -> dict | str:
    """The event, or what is wrong with it."""
    try:
        event = json.loads(message.value)
        if event["version"] != VERSION:
            return f"{message.id}: an event of version {event['version']}; expected {VERSION}"
        texts = [event[name] for name in ("time", "run_id", "kind")]
        if isinstance(event["payload"], dict) and all(isinstance(text, str) for text in texts):
            return event
    except (ValueError, KeyError, TypeError):
        pass
    return f"{message.id}: not an event"


def _line(event: dict) -> str:
    words = [event["time"][:19], event["run_id"][:8], event["kind"].replace("_", " "), _values(event["payload"])]
    return " ".join("  ".join(words).splitlines())


def _values(payload: dict) -> str:
    shown = [f"{name} {v:.4g}" if isinstance(v, float) else f"{name} {v}" for name, v in payload.items()]
    return "  ".join(" ".join(word.splitlines()) for word in shown)
