"""Ships journals to MLflow: a replica that can be made again from them at any time.

Everything is done so that doing it twice changes nothing: a run is found by the id in its journal before it is created,
metrics carry the journal's time and MLflow keeps one of equal points, params and tags are the same again.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.lock import Lock
from jobs.urls import redact
from orchestrator.tracking import deleted, places, settings
from orchestrator.tracking.journal import FILE, Entry, Event, read
from orchestrator.tracking.limits import ENTRIES, PARAM, TAG, batches, cut, name_of
from orchestrator.tracking.uri import full_uri

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

log = logging.getLogger(__name__)

ID_TAG, RUN_TAG = "orchestrator.id", "orchestrator.run"
"""Tags of the MLflow run: the id in the journal, by which it is found again, and the run's name."""

_MIGRATION_S = 600.0
"""How long another process may take to make or migrate the database; it needs seconds."""


class Unreachable(ConnectionError):  # noqa: N818  (a state of the server)
    """The tracking server or database does not answer."""


@dataclass(frozen=True)
class _Cursor:
    """How far a journal has been shipped, and to which run; ``seq`` and ``end`` as in :class:`Entry`."""

    seq: int = 0
    end: int = 0
    uri: str = ""
    run_id: str = ""


class Shipper:
    """Sends the journal in ``folder`` to MLflow, from where it last got to (``shipped.json`` beside it)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file = folder / "shipped.json"
        self._cursor = self._load()
        self._client: MlflowClient | None = None

    @property
    def seq(self) -> int:
        """Number of the last event that MLflow has; 0 for none."""
        return self._cursor.seq

    @property
    def target(self) -> tuple[str, str]:
        """Tracking URI, without its password, and MLflow's id of the run; empty before it was created."""
        return self._cursor.uri, self._cursor.run_id

    def ship(self, until: int | None = None, again: bool = False) -> None:
        """Send all events, up to the one numbered ``until``.

        Args:
            until: a live writer passes what is safely on its disk.
            again: from the first event, though MLflow may have them.

        Raises:
            Locked: another process is sending them.
            Unreachable: the server or the database does not answer.
            RuntimeError: it fell silent on the way, or refuses; the message is MLflow's.
            ValueError: the journal is corrupt.
        """
        with Lock(self.folder / "shipped.lock"):
            self._cursor = _Cursor() if again else self._load()
            entries = self._waiting(until)
            try:
                try:
                    self._send(entries)
                except Exception as error:
                    if getattr(error, "error_code", "") != "RESOURCE_DOES_NOT_EXIST" or not self._cursor.run_id:
                        raise
                    log.warning("MLflow lost run %s; it is made again from %s", self._cursor.run_id, self.folder / FILE)
                    self._cursor = _Cursor()
                    self._send(self._waiting(until))
            except (Unreachable, ValueError):
                raise
            except Exception as error:
                why = self._deleted() if "'active' state" in str(error) else ""
                raise RuntimeError(redact(f"MLflow did not take run {self.folder.name}: {why or error}")) from None

    def _deleted(self) -> str:
        """What of this run is deleted in MLflow, with the cure; empty where nothing is."""
        begin = read(self.folder / FILE)[0].event
        assert self._client is not None
        uri = self._cursor.uri or places.absolute(begin["uri"], self.folder)
        return deleted.cure(self._client, uri, begin["experiment"], self._cursor.run_id)

    def delete(self) -> Path | None:
        """Delete the run in MLflow, if it is there; returns the folder of its artifacts, if that is in this home.

        Raises:
            Unreachable: the server does not answer.
            ValueError: it names another folder of this home for them; nothing was deleted.
        """
        uri, run_id = self.target
        if not run_id:
            return None
        client = connect(uri, places.artifacts_folder(self.folder))
        try:
            artifacts = places.artifacts_of(client.get_run(run_id), run_id, self.folder)
            client.delete_run(run_id)
        except Exception as error:
            if getattr(error, "error_code", "") == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        return artifacts

    def _load(self) -> _Cursor:
        try:
            cursor = _Cursor(**json.loads(self._file.read_text()))
            lost = cursor.end > (self.folder / FILE).stat().st_size
        except FileNotFoundError:
            return _Cursor()
        except (ValueError, TypeError):
            lost = True
        if lost:  # a power cut may take either file's end; sending again is harmless
            return _Cursor()
        return replace(cursor, uri=places.absolute(cursor.uri, self.folder))

    def _save(self, entry: Entry) -> None:
        self._cursor = replace(self._cursor, seq=entry.seq, end=entry.end)
        fresh = self._file.with_suffix(".tmp")
        kept = replace(self._cursor, uri=places.relative(self._cursor.uri, self.folder))
        fresh.write_text(json.dumps(asdict(kept)))
        fresh.replace(self._file)

    def _waiting(self, until: int | None) -> list[Entry]:
        after = Entry(self._cursor.seq, self._cursor.end, {})
        return [entry for entry in read(self.folder / FILE, after) if until is None or entry.seq <= until]

    def _send(self, entries: list[Entry]) -> None:
        if entries and self._client is None:
            uri = self._cursor.uri or places.absolute(entries[0].event["uri"], self.folder)
            self._client = connect(uri, places.artifacts_folder(self.folder))
        for batch in batches(entries):
            self._apply([entry.event for entry in batch])
            self._save(batch[-1])

    def _apply(self, events: Sequence[Event]) -> None:
        from mlflow.entities import Metric, RunTag

        assert self._client is not None
        client, run_id, first = self._client, self._cursor.run_id, events[0]
        match first["event"]:
            case "begin":
                self._begin(client, first)
            case "resume":
                client.update_run(run_id, status="RUNNING")
            case "metric":
                metrics = [
                    Metric(name_of(event["name"]), float(event["value"]), _ms(event), event["step"]) for event in events
                ]
                client.log_batch(run_id, metrics=metrics)
            case "tag":
                values = {name_of(event["key"]): cut(event["value"], TAG) for event in events}
                client.log_batch(run_id, tags=[RunTag(*item) for item in values.items()])
            case "artifact":
                path = self.folder / first["path"]
                if path.is_dir():
                    client.log_artifacts(run_id, str(path), first["to"] or None)
                elif path.exists():
                    client.log_artifact(run_id, str(path), first["to"] or None)
                else:
                    log.warning("artifact %s of run %s is gone; it is left out", path, self.folder.name)
            case "end":
                client.set_terminated(run_id, first["status"], _ms(first))

    def _begin(self, client: MlflowClient, event: Event) -> None:
        from mlflow.entities import Param, RunTag

        experiment = _experiment(
            client, event["experiment"], places.artifacts_folder(self.folder) if _is_local(event["uri"]) else None
        )
        run = _find(client, experiment, event["id"])
        if run is None:
            ours = {ID_TAG: event["id"], RUN_TAG: event["run"]} | self._parent(client, event)
            run = client.create_run(experiment, _ms(event), ours, event["run"])
        elif run.info.status != "RUNNING":
            client.update_run(run.info.run_id, status="RUNNING")
        self._cursor = replace(self._cursor, uri=places.absolute(event["uri"], self.folder), run_id=run.info.run_id)
        params = [Param(name_of(key), cut(value, PARAM)) for key, value in event["params"].items()]
        tags = [RunTag(name_of(key), cut(value, TAG)) for key, value in event["tags"].items()]
        for start in range(0, len(params), ENTRIES):
            client.log_batch(run.info.run_id, params=params[start : start + ENTRIES])
        for start in range(0, len(tags), ENTRIES):
            client.log_batch(run.info.run_id, tags=tags[start : start + ENTRIES])

    def _parent(self, client: MlflowClient, event: Event) -> dict[str, str]:
        journal = self.folder.parent / str(event["parent"]) / FILE
        if event["parent"] is None or not journal.exists():
            return {}
        begin = read(journal)[0].event
        experiment = client.get_experiment_by_name(begin["experiment"])
        run = _find(client, experiment.experiment_id, begin["id"]) if experiment else None
        if run is None:
            raise RuntimeError(f"its parent {event['parent']} is not there yet")
        return {"mlflow.parentRunId": run.info.run_id}


def connect(uri: str, artifacts: Path) -> MlflowClient:
    """A client for ``uri`` that has been heard from; a database is made where it is missing, by one process at a time.

    Args:
        uri: as in the journal, without a password (see :func:`orchestrator.tracking.uri.full_uri`).
        artifacts: where a database that is new keeps the artifacts of MLflow's own default experiment.

    Raises:
        Unreachable: there is no answer.
    """
    settings.apply()
    from mlflow.tracking import MlflowClient

    try:
        if _is_local(uri):
            from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

            for noisy in ("alembic", "mlflow.store.db.utils"):
                logging.getLogger(noisy).setLevel(logging.WARNING)
            database = Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:") else artifacts
            database.parent.mkdir(parents=True, exist_ok=True)
            # Processes that open a new database at the same time all run its migrations, and most of them fail.
            with Lock(database.with_name(f"{database.name}.lock"), _MIGRATION_S):
                ours = database.parent == artifacts.parent and uri.startswith("sqlite:")
                if uri.startswith("sqlite:") and "?" not in uri and not database.exists():
                    # In place, a process that is killed meanwhile would leave a part that nothing can continue.
                    new = database.with_name(f"{database.name}.new")
                    for left in new.parent.glob(f"{new.name}*"):
                        left.unlink()
                    if ours:
                        places.make_private(new)
                    SqlAlchemyStore(f"sqlite:///{new}", artifacts.as_uri()).engine.dispose()
                    os.replace(new, database)
                if ours:
                    places.make_private(database)
                SqlAlchemyStore(full_uri(uri), artifacts.as_uri())
                if ours:
                    places.repoint(database, artifacts)
        client = MlflowClient(full_uri(uri))
        client.search_experiments(max_results=1)
    except Exception as error:
        raise Unreachable(redact(f"MLflow at {uri} does not answer: {error}")) from None
    return client


def _experiment(client: MlflowClient, name: str, artifacts: Path | None) -> str:
    for attempt in range(2):
        found = client.get_experiment_by_name(name)
        if found:
            return str(found.experiment_id)
        try:
            return str(client.create_experiment(name, artifacts.as_uri() if artifacts else None))
        except Exception as error:  # somebody else was faster
            if attempt or getattr(error, "error_code", "") != "RESOURCE_ALREADY_EXISTS":
                raise
    raise AssertionError


def _find(client: MlflowClient, experiment: str, journal_id: str) -> Run | None:
    runs = client.search_runs([experiment], f"tags.`{ID_TAG}` = '{journal_id}'", max_results=1)
    return runs[0] if runs else None


def _is_local(uri: str) -> bool:
    return not uri.startswith(("http", "databricks"))


def _ms(event: Event) -> int:
    return int(event["time"] * 1000)
