"""A run outside of the steps: of a training that a caller of the package began."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from common.cli import UserError
from common.tracking.identity import flatten
from common.tracking.outbox import send_leftovers, try_again
from common.tracking.provenance import provenance
from common.tracking.runs import Run, closing
from common.tracking.seam import telling
from common.tracking.store import Connection, open_store


@contextlib.contextmanager
def start_plain(
    name: str, experiment: str, settings: dict, table, compute, stream, goes_on: str | None = None, **details: object
) -> Iterator[Run]:
    """A root run with its settings and where its data and code come from; its events go to the brokers that are set.

    Parameters
    ----------
    settings : dict
        Recorded as parameters.
    table : common.data.ImageTable
    compute : common.training.Compute
    stream : common.seeds.Stream
    goes_on : str, optional
        A run that was interrupted, to go on with; another one starts if that has finished or is gone.
    details
        What the first event says beside the name.

    Raises
    ------
    UserError
        When the server cannot be used or a broker's topic does not exist.
    """
    uri, experiment_id = open_store(experiment)
    client = Connection(uri)
    try_again(uri)

    def create() -> Run:
        send_leftovers(client)
        if goes_on is not None:
            with contextlib.suppress(UserError):  # of another server, or deleted
                found = client.get_run(goes_on)
                if found.info.status != "FINISHED":
                    return Run.again(uri, found, {"root_run_id": goes_on, "phase": "training"})
        made = client.create_run(experiment_id, tags={"run_level": "root", "step": experiment}, run_name=name).info
        return Run(uri, experiment_id, made.run_id, {"root_run_id": made.run_id, "phase": "training"})

    with telling(name=name, **details) as begin, closing(create, wait=True) as run:
        begin(run)
        if not run.resumed:
            origin, artifacts = provenance(table, stream, compute)
            run.params({**origin, **flatten(settings, "params.")})
            for artifact, content in artifacts.items():
                run.text(content, f"provenance/{artifact}")
        yield run
