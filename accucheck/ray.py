"""Ray Data: check a dataset on a cluster, lazily, with one account and one ledger for all its actors.

::

    checked = accucheck.ray.check(ds, number="phone", ledger="postgresql://ledger-host/accucheck")
    checked.write_parquet("s3://bucket/checked")

The ledger holds the state, not the actors: when Ray runs a task again after a lost node or a failed actor, the task
reads the answers already bought and buys only the rest. At most the calls in flight at the time are made again.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlsplit

from accucheck._client import Client
from accucheck._errors import ConfigurationError
from accucheck._models import Outcome
from accucheck.frames import answer_columns, opened

if TYPE_CHECKING:
    import pyarrow
    from ray.data import Dataset

__all__ = ["check"]

_TASKS: Final = 4
"""Blocks of the dataset in an actor at once. A block waits for its slowest number: one alone would leave it idle."""
_CLOSING_SECONDS: Final = 10.0


def check(
    ds: Dataset,
    *,
    number: str,
    ledger: str | None,
    actors: int = 1,
    workers: int = 100,
    buffer: int = 10_000,
    batch_size: int = 1_000,
    client: dict[str, Any] | None = None,
    num_cpus: float = 0.5,
    **options: Any,
) -> Dataset:
    """Return ``ds`` with the answer of every row appended, lazily: nothing is bought until it is consumed.

    Args:
        ds: A dataset. Its own columns stay, followed by ``accucheck.frames.ANSWER_COLUMNS``.
        number: The column with the phone numbers.
        ledger: Where answers, claims and the rate are shared: a ``postgresql://`` URL that every node can reach, or a
            path if the cluster is one machine. Leave the password out of the URL: each node reads it from PGPASSFILE
            or PGPASSWORD. With None, nothing is shared, and a task that runs again buys its answers again.
        actors: Number of actors, 1 or more. One core makes thousands of calls per second; use more actors to survive
            the loss of a node, not for speed.
        workers: Calls in flight at once in each actor.
        buffer: Additional rows of an actor that wait for a retry, a poll or another actor's answer. An actor never
            works on more than ``workers + buffer`` rows.
        batch_size: Rows per batch.
        client: Arguments for ``Client``, without the credentials: each node reads ACCUCHECK_API_ID and
            ACCUCHECK_API_SECRET from its environment, so nothing secret is in Ray's object store or dashboard.
        num_cpus: CPUs that Ray reserves for an actor.
        options: Other options of ``Client.stream``, such as ``max_calls`` or ``fresh_within``. A number as ``rate`` is
            the ceiling for all actors together.

    Raises:
        ConfigurationError: Ray is not installed, or an argument is wrong.
    """
    try:
        from ray.data import ActorPoolStrategy
    except ImportError as error:
        raise ConfigurationError("Ray Data needs extra packages: pip install 'accucheck[ray]'") from error
    for name, value in (
        ("actors", actors),
        ("workers", workers),
        ("buffer", buffer),
        ("batch_size", batch_size),
    ):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigurationError(f"{name} must be a whole number, 1 or more, not {value!r}")
    _refuse_secrets(client or {}, ledger)
    # The client's, so that all actors share it through the ledger.
    client = {**(client or {}), "ledger": ledger}
    client |= {name: options.pop(name) for name in ("rate", "burst") if name in options}
    if ledger is None and actors > 1:
        if {"max_calls", "max_cost"} & set(options):
            raise ConfigurationError(
                "without a ledger each actor counts its calls alone: give a ledger, or actors=1, with max_calls"
            )
        if isinstance(client.get("rate"), int | float):
            client["rate"] /= actors
    return ds.map_batches(
        _Checker,
        fn_constructor_kwargs={
            "number": number,
            "client": client,
            "options": {**options, "workers": workers, "buffer": buffer},
        },
        batch_size=batch_size,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(
            size=actors, max_tasks_in_flight_per_actor=_TASKS, max_concurrent_calls_per_actor=_TASKS
        ),
        num_cpus=num_cpus,
        udf_modifying_row_count=False,
    )


def _refuse_secrets(client: dict[str, Any], ledger: str | None) -> None:
    secrets = {"api_id", "api_secret"} & set(client)
    if secrets:
        raise ConfigurationError(
            f"remove {' and '.join(sorted(secrets))} from client: Ray would keep it in its object store; set"
            " ACCUCHECK_API_ID and ACCUCHECK_API_SECRET in the environment of every node"
        )
    if ledger is not None and "://" in ledger:
        parts = urlsplit(ledger)
        if parts.password or "password" in parse_qs(parts.query):
            raise ConfigurationError(
                "leave the password out of the ledger's URL: Ray would store it in its object store; set PGPASSFILE"
                " or PGPASSWORD in the environment of every node"
            )


class _Checker:
    """One actor, which passes its batches to its own stream."""

    def __init__(self, *, number: str, client: dict[str, Any], options: dict[str, Any]) -> None:
        self._number = number
        self._stream = _ActorStream(client, options)

    async def __call__(self, batch: pyarrow.Table) -> AsyncIterator[pyarrow.Table]:
        table, texts, append = opened(batch, self._number)
        answers = await asyncio.wrap_future(self._stream.submit(texts))
        yield append(table, answer_columns(answers))

    def __del__(self) -> None:
        # Ray deletes the object when the actor ends properly, so its claims and unused calls are returned at once.
        if stream := getattr(self, "_stream", None):
            stream.close()


class _Batch:
    def __init__(self, texts: Sequence[Any]) -> None:
        self.texts = texts
        self.answers: list[Outcome[Any] | None] = [None] * len(texts)
        self.left = len(texts)
        self.done: Future[list[Outcome[Any] | None]] = Future()
        self.done.set_running_or_notify_cancel()  # Ray may stop waiting for it; what was read is still paid for


class _ActorStream:
    """One stream for all batches of an actor, in its own thread.

    Ray blocks its event loop while the reader of the dataset is slow. Meanwhile, calls in flight must settle and claims
    must be renewed.
    """

    def __init__(self, client: dict[str, Any], options: dict[str, Any]) -> None:
        self._client = client
        self._options = options
        self._room = asyncio.Semaphore(options["workers"] + options["buffer"])
        self._batches: asyncio.Queue[_Batch | None] = asyncio.Queue()
        self._lock = threading.Lock()
        self._open: set[_Batch] = set()
        self._error: BaseException | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="accucheck", daemon=True)
        self._thread.start()

    def submit(self, texts: Sequence[Any]) -> Future[list[Outcome[Any] | None]]:
        """Return a future of the answers. If the run has ended, for example with OutOfQuota, raise its error."""
        batch = _Batch(texts)
        if not texts:
            batch.done.set_result([])
            return batch.done
        with self._lock:
            if self._error is not None:
                raise self._error
            self._open.add(batch)
            self._loop.call_soon_threadsafe(self._batches.put_nowait, batch)
        return batch.done

    def close(self) -> None:
        """End the stream after the batches that were submitted."""
        with self._lock:
            if self._error is None:
                self._loop.call_soon_threadsafe(self._batches.put_nowait, None)
        self._thread.join(_CLOSING_SECONDS)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._check_until_closed())

    async def _check_until_closed(self) -> None:
        error: BaseException = RuntimeError("the actor is closed")
        try:
            await self._check()
        except BaseException as caught:  # noqa: BLE001 (every batch raises it)
            error = caught
        with self._lock:
            self._error = error
        for batch in self._open:
            batch.done.set_exception(error)

    async def _check(self) -> None:
        async with (
            Client(**self._client) as client,
            client.stream(self._rows(), number=_text_of, **self._options) as outcomes,
        ):
            async for outcome in outcomes:
                batch, place = outcome.item
                batch.answers[place] = outcome
                self._room.release()
                batch.left -= 1
                if not batch.left:
                    with self._lock:
                        self._open.discard(batch)
                    batch.done.set_result(batch.answers)

    async def _rows(self) -> AsyncIterator[tuple[_Batch, int]]:
        while (batch := await self._batches.get()) is not None:
            for place in range(len(batch.texts)):
                await self._room.acquire()
                yield batch, place


def _text_of(row: tuple[_Batch, int]) -> Any:
    batch, place = row
    return batch.texts[place]
