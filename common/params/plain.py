"""A run outside of the steps: of a training that a caller of the package began."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

from common.cli import masked
from common.state import PROJECT, work_folder
from common.tracking.at_work import kept_from_work
from common.tracking.closing import closing
from common.tracking.identity import fingerprint, flatten
from common.tracking.outbox import try_again
from common.tracking.provenance import dataset_of, provenance, source_tags
from common.tracking.runs import Run
from common.tracking.seam import telling
from common.tracking.store import Connection, open_store
from common.tracking.unfinished import NEWEST_FIRST, mark_killed


@contextlib.contextmanager
def start_plain(
    name: str,
    experiment: str,
    settings: dict,
    identity: dict[str, str],
    table,
    compute,
    stream,
    key: str,
    others: Collection[str] = (),
    **details: object,
) -> Iterator[Run]:
    """A root run with its settings and where its data and code come from; its events go to the brokers that are set.

    The newest run with this key goes on unless it has finished, whether or not the process that began it could close
    it; what the others have left open is closed.

    Parameters
    ----------
    settings : dict
        Recorded as parameters.
    identity : dict
        What its results depend on; recorded as ``identity.json``.
    table : common.data.ImageTable
    compute : common.training.Compute
    stream : common.seeds.Stream
    key : str
        Of what is trained; its tag ``logdir``.
    others : collection of str
        Keys of what nobody trains any more.
    details
        What the first event says beside the name.

    Raises
    ------
    UserError
        When the server cannot be used, another process works on this run, or a broker's topic does not exist.
    """
    uri, experiment_id = open_store(experiment, waits=True)
    client = Connection(uri)
    try_again(uri)

    def create() -> Run:
        for found in client.search_runs([experiment_id], "attributes.status = 'RUNNING'"):
            if found.data.tags.get("logdir") in others:
                mark_killed(client, found)
        of_key = client.search_runs([experiment_id], f"tags.logdir = '{key}'", order_by=[NEWEST_FIRST], max_results=1)
        if of_key and of_key[0].info.status != "FINISHED":
            held.enter_context(kept_from_work(run_id := of_key[0].info.run_id))
            return Run.again(uri, of_key[0], {"root_run_id": run_id})
        tags = {"run_level": "root", "step": experiment, "logdir": key, "fingerprint": fingerprint(identity)}
        made = client.create_run(experiment_id, tags=tags | _command(), run_name=name).info
        held.enter_context(kept_from_work(made.run_id))
        return Run(uri, experiment_id, made.run_id, {"root_run_id": made.run_id})

    with contextlib.ExitStack() as held, telling(name=name, **details) as begin, closing(create, wait=True) as run:
        run.alone = True
        begin(run)
        if not (run.resumed and client.get_run(run.run_id).data.params):  # these are recorded last
            origin, artifacts = provenance(table, stream, compute)
            for artifact, content in artifacts.items():
                run.text(content, f"provenance/{artifact}")
            run.text(json.dumps(identity, indent=1), "identity.json")
            run.tags(**source_tags(Path(sys.argv[0]).name, origin))
            client.log_inputs(run.run_id, datasets=[dataset_of(table)])
            run.params({**origin, **flatten(settings, "params.")})
        yield run
    shutil.rmtree(work_folder("checkpoints") / run.run_id, ignore_errors=True)


def _command() -> dict[str, str]:
    """The script and its arguments as a tag, where it lies in the project."""
    script = Path(sys.argv[0] or "-").resolve()
    if not (script.is_file() and script.is_relative_to(PROJECT)) or script.is_relative_to(sys.prefix):
        return {}
    words = [script.relative_to(PROJECT).as_posix(), *sys.argv[1:]]
    return {"command": json.dumps([masked(word) for word in words])}
