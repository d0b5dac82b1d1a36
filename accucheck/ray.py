"""Ray Data: check a dataset on a cluster, lazily, with one account and one ledger for all its actors.

::

    checked = accucheck.ray.check(ds, number="phone", ledger="postgresql://ledger-host/accucheck")
    checked.write_parquet("s3://bucket/checked")

The state is in the ledger and not in the actors: a task that Ray runs again, after a lost node or a failed actor, reads
the answers that were bought before it and buys only the rest. At most the calls in flight at the loss are made again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from accucheck._client import Client
from accucheck._errors import ConfigurationError
from accucheck.frames import enrich_async

if TYPE_CHECKING:
    import pyarrow
    from ray.data import Dataset

__all__ = ["check"]


def check(
    ds: Dataset,
    *,
    number: str,
    ledger: str | None,
    actors: int = 1,
    workers: int = 100,
    batch_size: int = 1_000,
    batches: int = 4,
    client: dict[str, Any] | None = None,
    num_cpus: float = 0.5,
    **options: Any,
) -> Dataset:
    """Return ``ds`` with the answer of every row appended, lazily: nothing is bought until it is consumed.

    Args:
        ds: A dataset; its rows and their columns stay, followed by ``accucheck.frames.ANSWER_COLUMNS``.
        number: The column with the phone numbers.
        ledger: Where answers, claims and the rate are shared: a ``postgresql://`` URL that every node reaches, or a
            path if the cluster is one machine. None shares nothing: a task that runs again buys its answers again.
        actors: Actors, 1 or more. One core makes thousands of calls a second: take more to survive the loss of a
            node, not for speed.
        workers: Calls in flight at once in each actor.
        batch_size: Rows of one batch.
        batches: Batches in an actor at once; an actor never holds more than ``batch_size * batches`` rows. A batch
            waits for its slowest number, so one alone would leave the actor idle.
        client: Arguments for ``Client``. Leave the credentials out of it: each node reads ACCUCHECK_API_ID and
            ACCUCHECK_API_SECRET from its own environment, and nothing secret is in Ray's object store or dashboard.
        num_cpus: CPUs that Ray reserves for an actor.
        options: Further ones of ``Client.stream``, such as ``max_calls`` or ``fresh_within``.

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
        ("batch_size", batch_size),
        ("batches", batches),
    ):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigurationError(f"{name} is a whole number, 1 or more, not {value!r}")
    secrets = {"api_id", "api_secret"} & set(client or {})
    if secrets:
        raise ConfigurationError(
            f"leave {' and '.join(sorted(secrets))} out of client: Ray would store it in its object store; set"
            " ACCUCHECK_API_ID and ACCUCHECK_API_SECRET in the environment of every node"
        )
    return ds.map_batches(
        _Checker,
        fn_constructor_kwargs={
            "number": number,
            "client": client or {},
            "options": {**options, "ledger": ledger, "workers": workers},
        },
        batch_size=batch_size,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(
            size=actors, max_tasks_in_flight_per_actor=batches, max_concurrent_calls_per_actor=batches
        ),
        num_cpus=num_cpus,
        udf_modifying_row_count=False,
    )


class _Checker:
    """One actor: a client of its own, opened by its first batch in the actor's event loop."""

    def __init__(self, *, number: str, client: dict[str, Any], options: dict[str, Any]) -> None:
        self._number = number
        self._arguments = client
        self._options = options
        self._client: Client | None = None

    async def __call__(self, batch: pyarrow.Table) -> AsyncIterator[pyarrow.Table]:
        if self._client is None:
            self._client = Client(**self._arguments)
            await self._client.__aenter__()
        yield await enrich_async(batch, number=self._number, client=self._client, **self._options)
