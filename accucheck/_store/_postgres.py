"""The store in PostgreSQL 15 or later, for any number of processes on any number of machines.

All times are on the server's clock. A process keeps what it holds until it has failed to renew it for ten seconds. No
session locks, because poolers break them. Processes of one user on one machine know at once that another has died, and
how many calls it made: each keeps its counters in a locked file, as beside a ledger file, among the temporary files.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, LiteralString, TypeAlias, TypeVar

import msgspec

from accucheck._errors import ConfigurationError, LedgerError
from accucheck._models import Settlement
from accucheck._store._owner import SLOTS, Owner, boot_id, counters_of, dead, process_of, remove
from accucheck._store._packing import Choice, Row, claim_key, number_of, row_of
from accucheck._store._permits import Outcomes, Pace, PermitRequest, Permits, lease, seat_of
from accucheck._store._protocol import COUNTS_MONEY, Claims, Endpoint, Query

if TYPE_CHECKING:
    from psycopg import AsyncConnection, Connection
    from psycopg_pool import AsyncConnectionPool

__all__ = [
    "FIND",
    "VERSION_QUERY",
    "PostgresStore",
    "check_server",
    "check_version",
    "init_postgres",
    "is_postgres",
    "ledger_error",
    "psycopg_module",
    "shown",
]

logger = logging.getLogger("accucheck")
Result = TypeVar("Result")
_Parameters: TypeAlias = Sequence[object] | Mapping[str, object]

VERSION: Final = 1
_OLDEST_SERVER: Final = 150_000
_EXPIRY: Final = "10 seconds"
_LEFT_FOR: Final = "1 day"
"""How long the claims of a dead process are kept: longer than any wait before asking a number again."""
_RENEW_SECONDS: Final = 2.0
_PATIENCE: Final = 30.0
"""Seconds for which to keep trying a server that cannot be reached."""
_CONNECTIONS: Final = 4

# One version of the tables, in their own schema. The rows of `paces` change many times a second;
# free space in their pages keeps these changes from growing the table.
_SCHEMA: Final = """
CREATE SCHEMA accucheck;
CREATE TABLE accucheck.meta (version integer NOT NULL);
INSERT INTO accucheck.meta VALUES (1);
CREATE TABLE accucheck.answers (
    key bigint PRIMARY KEY,             -- national number << 3 | failed << 2 | endpoint (0 advanced, 1 basic)
    at bigint NOT NULL,                 -- microseconds since 1970, UTC: in `packed` too, here for SQL
    whatsapp boolean,                   -- NULL for a failure; likewise
    packed bytea NOT NULL);             -- all of it: msgpack, as in _packing.py
CREATE TABLE accucheck.earlier (        -- what was in answers before its number was asked again, for the statement
    key bigint,
    at bigint,
    packed bytea NOT NULL,
    PRIMARY KEY (key, at));
CREATE FUNCTION accucheck.keep_earlier() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
    BEGIN
        INSERT INTO accucheck.earlier VALUES (old.key, old.at, old.packed) ON CONFLICT DO NOTHING;
        RETURN new;
    END $$;
CREATE TRIGGER keep_earlier BEFORE UPDATE ON accucheck.answers FOR EACH ROW WHEN (old.at <> new.at)
    EXECUTE FUNCTION accucheck.keep_earlier();
CREATE TABLE accucheck.owners (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    token text NOT NULL,                -- names its file of counters, on its machine
    expires timestamptz NOT NULL);
CREATE TABLE accucheck.claims (
    key bigint PRIMARY KEY,             -- national number << 3
    owner bigint NOT NULL) WITH (fillfactor = 70);
CREATE TABLE accucheck.leases (
    owner bigint NOT NULL,
    job text NOT NULL,
    slot integer NOT NULL,              -- of the counters; -1 without
    granted bigint NOT NULL,            -- calls leased and not given back
    made bigint NOT NULL,               -- of these, sent as of the last report
    PRIMARY KEY (job, owner)) WITH (fillfactor = 50);
CREATE TABLE accucheck.jobs (
    name text PRIMARY KEY,
    calls bigint NOT NULL DEFAULT 0,    -- made by owners that have ended
    possibly_double_charged bigint NOT NULL DEFAULT 0,
    lost_to_kills bigint NOT NULL DEFAULT 0) WITH (fillfactor = 50);
CREATE TABLE accucheck.settings (name text PRIMARY KEY, value text NOT NULL);
CREATE TABLE accucheck.paces (
    account text PRIMARY KEY,
    pace text NOT NULL) WITH (fillfactor = 10);  -- JSON, as in _permits.py
CREATE TABLE accucheck.reports (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account text NOT NULL,
    outcomes text NOT NULL);
"""

VERSION_QUERY: Final = "SELECT version FROM accucheck.meta"
FIND: Final = "SELECT key, at, whatsapp, packed FROM accucheck.answers WHERE key = ANY(%s)"
_UPSERT: Final = """
WITH unclaimed AS (DELETE FROM accucheck.claims WHERE owner = %(owner)s AND key = ANY(%(claims)s)),
counted AS (
    INSERT INTO accucheck.jobs AS job (name, possibly_double_charged) SELECT %(job)s, %(lost)s WHERE %(lost)s > 0
    ON CONFLICT (name) DO UPDATE SET possibly_double_charged =
        job.possibly_double_charged + excluded.possibly_double_charged),
reported AS (UPDATE accucheck.leases SET made = %(made)s WHERE owner = %(owner)s AND job = %(job)s AND made < %(made)s)
INSERT INTO accucheck.answers AS known
SELECT * FROM unnest(%(keys)s::bigint[], %(at)s::bigint[], %(whatsapp)s::boolean[], %(packed)s::bytea[])
ON CONFLICT (key) DO UPDATE SET at = excluded.at, whatsapp = excluded.whatsapp, packed = excluded.packed
WHERE excluded.at >= known.at"""
_CLAIM: Final = """
INSERT INTO accucheck.claims AS claim SELECT key, %(owner)s FROM unnest(%(keys)s::bigint[]) AS key ORDER BY key
ON CONFLICT (key) DO UPDATE SET owner = excluded.owner WHERE claim.owner = excluded.owner
    OR NOT EXISTS (SELECT 1 FROM accucheck.owners WHERE id = claim.owner AND expires > clock_timestamp())
RETURNING key"""
_LEFT: Final = """
SELECT key, least(coalesce(extract(epoch FROM expires), -owner), extract(epoch FROM clock_timestamp()))::float8
FROM accucheck.claims LEFT JOIN accucheck.owners ON id = owner
WHERE key = ANY(%(keys)s) AND owner <> %(owner)s AND (expires IS NULL OR expires <= clock_timestamp())"""
"""What others had claimed that were not heard of since, and until when they may have asked for it. The owner of a claim
whose process is dead is that time, negative."""
_UNCLAIM: Final = "DELETE FROM accucheck.claims WHERE owner = %s AND key = ANY(%s)"
_SPENT: Final = """
SELECT coalesce((SELECT calls FROM accucheck.jobs WHERE name = %(job)s), 0)
    + coalesce(sum(granted), 0), count(*) FILTER (WHERE owner <> %(owner)s)
FROM accucheck.leases WHERE job = %(job)s"""
_COUNT: Final = """
INSERT INTO accucheck.jobs AS job (name, calls, possibly_double_charged, lost_to_kills) VALUES (%s, %s, %s, %s)
ON CONFLICT (name) DO UPDATE SET calls = job.calls + excluded.calls,
    possibly_double_charged = job.possibly_double_charged + excluded.possibly_double_charged,
    lost_to_kills = job.lost_to_kills + excluded.lost_to_kills"""
# A pace need not wait for the disk, but for the calls that count against quotas: a server that was killed is away for
# longer than any permit lasts.
_LOOK: Final = """
SELECT pace, extract(epoch FROM clock_timestamp())::float8,
    set_config('synchronous_commit', %(synchronous)s, true)
FROM accucheck.paces WHERE account = %(account)s FOR UPDATE"""

_pace_of: Final = msgspec.json.Decoder(Pace).decode
_outcomes_of: Final = msgspec.json.Decoder(Outcomes).decode


def is_postgres(ledger: object) -> bool:
    """Return whether a ledger is given as the URL of a PostgreSQL database."""
    return isinstance(ledger, str) and ledger.startswith(("postgresql://", "postgres://"))


async def init_postgres(url: str) -> bool:
    """Create the tables in the database at ``url``; return False if they already exist.

    Raises:
        LedgerError: the server cannot be reached, is too old, or the role may not make a schema.
    """
    psycopg = psycopg_module()
    name = shown(url)
    try:
        async with await psycopg.AsyncConnection.connect(url) as connection:
            check_server(connection, name)
            await connection.execute("SELECT pg_advisory_xact_lock(1094927189)")  # one at a time
            cursor = await connection.execute("SELECT to_regclass('accucheck.meta') IS NULL")
            row = await cursor.fetchone()
            if row is None or not row[0]:
                return False
            await connection.execute(_SCHEMA)
            return True
    except psycopg.Error as trouble:
        raise ledger_error(name, trouble) from None


def shown(url: str) -> str:
    """Return a URL without its password and options, for messages."""
    psycopg = psycopg_module()
    try:
        parts = psycopg.conninfo.conninfo_to_dict(url)
    except psycopg.Error:
        return "postgresql://…"  # whatever it is, it may hold a password
    user = f"{parts['user']}@" if parts.get("user") else ""
    port = f":{parts['port']}" if parts.get("port") else ""
    return f"postgresql://{user}{parts.get('host', '')}{port}/{parts.get('dbname', '')}"


class PostgresStore:
    """Answers, claims and calls in a PostgreSQL database; see ``Store`` for its methods.

    ``accucheck ledger init URL`` creates the tables; the role needs only USAGE on the schema ``accucheck`` and SELECT,
    INSERT, UPDATE and DELETE on its tables. The password comes from the URL, PGPASSFILE or PGPASSWORD.

    After a lost connection, it tries to reconnect for 30 seconds, during which nothing is bought; then methods raise
    ``LedgerError``.

    Args:
        url: ``postgresql://user@host/database``.
        now: Returns seconds since 1970.
        patience: Seconds for which to keep trying a server that cannot be reached.
    """

    durable = True

    def __init__(
        self, url: str, *, now: Callable[[], float] = time.time, patience: float = _PATIENCE
    ) -> None:
        self._url = url
        self.name = shown(url)
        """The URL without its password."""
        self._now = now
        self._patience = patience
        self._pool: AsyncConnectionPool[Any] | None = None
        self._opening = asyncio.Lock()
        self._owner = -1
        self._renewing: asyncio.Task[None] | None = None
        self._claimed: set[int] = set()
        self._made: Counter[str] = Counter()  # since the lease began
        self._process: Owner | None = None
        self._slots: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"PostgresStore({self.name!r})"

    async def open(self) -> None:
        async with self._opening:
            if self._pool is not None:
                return
            psycopg = psycopg_module()
            from psycopg_pool import AsyncConnectionPool

            pool: AsyncConnectionPool[Any] = AsyncConnectionPool(
                self._url,
                min_size=1,
                max_size=_CONNECTIONS,
                open=False,
                timeout=self._patience,
                reconnect_timeout=self._patience,
                kwargs={"autocommit": True},
            )
            # First without the pool, which does not say why it has no connection.
            try:
                async with await psycopg.AsyncConnection.connect(self._url, autocommit=True) as connection:
                    check_server(connection, self.name)
                    cursor = await connection.execute(VERSION_QUERY)
                    check_version(await cursor.fetchone(), self.name)
                await pool.open(wait=True)
            except psycopg.Error as trouble:
                await pool.close()
                raise ledger_error(self.name, trouble) from None
            self._pool = pool
            with suppress(OSError):  # without the file others wait until it has expired
                self._process = Owner(_counters_path(), reserve=0)
            try:
                self._owner = await self._do(self._new_owner)
                await self._do(self._reap)
            except BaseException:
                self._pool = None
                self._close_counters()
                await pool.close()
                raise
            self._renewing = asyncio.create_task(self._renew(), name="accucheck ledger")

    async def _new_owner(self, connection: AsyncConnection[Any]) -> int:
        token = "" if self._process is None else self._process.token
        ((owner,),) = await _fetch(
            connection,
            """INSERT INTO accucheck.owners (token, expires) VALUES (%s, clock_timestamp() + %s::interval)
            RETURNING id""",
            (token, _EXPIRY),
        )
        return int(owner)

    async def aclose(self) -> None:
        async with self._opening:
            pool, renewing = self._pool, self._renewing
            if pool is None:
                return
            if renewing is not None:
                renewing.cancel()
                await asyncio.wait([renewing])
            try:
                await self._do(self._leave, patience=min(self._patience, 5.0))
            finally:
                self._pool = None
                self._claimed.clear()
                self._made.clear()
                self._close_counters()
                await pool.close()

    def _close_counters(self) -> None:
        self._slots.clear()
        process, self._process = self._process, None
        if process is not None:
            process.close()

    async def _leave(self, connection: AsyncConnection[Any]) -> None:
        async with connection.transaction():
            await self._report(connection)
            await self._end_owner(connection, self._owner, token=None)

    async def _renew(self) -> None:
        """Renew what this process holds, report its calls, and free what dead processes held."""
        while True:
            await asyncio.sleep(_RENEW_SECONDS)
            try:
                await self._do(self._renew_once)
            except LedgerError as error:
                logger.warning("%s", error)  # the next buyer gets the error, too

    async def _renew_once(self, connection: AsyncConnection[Any]) -> None:
        async with connection.transaction():
            await self._report(connection)
            renewed = await _fetch(
                connection,
                "UPDATE accucheck.owners SET expires = clock_timestamp() + %s::interval WHERE id = %s RETURNING id",
                (_EXPIRY, self._owner),
            )
        if not renewed:
            # It was silent for too long, and others took over what it held: continue as a new owner.
            self._owner = await self._new_owner(connection)
            self._made.clear()
            for job in [*self._slots]:
                self._free_slot(job)
        await self._reap(connection)

    def _take_slot(self, job: str) -> int:
        if job not in self._slots and self._process is not None and len(self._slots) < SLOTS:
            self._slots[job] = self._process.take_slot()
        return self._slots.get(job, -1)

    def _free_slot(self, job: str) -> None:
        slot = self._slots.pop(job, None)
        if slot is not None and self._process is not None:
            self._process.free_slot(slot)

    async def _report(self, connection: AsyncConnection[Any]) -> None:
        if self._made:
            await connection.execute(
                """UPDATE accucheck.leases SET made = report.made
                FROM unnest(%s::text[], %s::bigint[]) AS report (job, made)
                WHERE owner = %s AND leases.job = report.job""",
                ([*self._made], [*self._made.values()], self._owner),
            )

    async def _end_owner(self, connection: AsyncConnection[Any], owner: int, *, token: str | None) -> None:
        """Count an owner's calls and drop what it holds, within a transaction; ``token`` is that of a dead one."""
        for job, slot, granted, made, claimed in await _fetch(
            connection,
            """DELETE FROM accucheck.leases WHERE owner = %(owner)s RETURNING job, slot, granted, made,
            (SELECT count(*) FROM accucheck.claims WHERE owner = %(owner)s)""",
            {"owner": owner},
        ):
            lost = 0
            known = counters_of(_counters_path(), token, slot) if token and slot >= 0 else None
            if known is not None:
                made, lost = min(known.made, granted), max(0, known.made - known.settled)
            elif token is not None:
                # On another machine. Since its last report it may have made a call for each number that it had
                # claimed; what its calls have cost is not reported with every answer: all that was leased counts.
                most = granted if job.startswith(COUNTS_MONEY) else made + claimed
                lost = max(0, min(granted, most) - made)
                made += lost
            await connection.execute(_COUNT, (job, made, 0, lost))
        if token is not None:
            # So the next one to claim its numbers knows that they may just have been asked.
            await connection.execute(
                """UPDATE accucheck.claims SET owner =
                (SELECT -ceil(extract(epoch FROM least(expires, clock_timestamp())))::bigint
                FROM accucheck.owners WHERE id = %(owner)s) WHERE owner = %(owner)s""",
                {"owner": owner},
            )
            await connection.execute(
                """DELETE FROM accucheck.claims
                WHERE owner < 0 AND -owner < extract(epoch FROM clock_timestamp() - %s::interval)""",
                (_LEFT_FOR,),
            )
        else:
            await connection.execute("DELETE FROM accucheck.claims WHERE owner = %s", (owner,))
        await connection.execute("DELETE FROM accucheck.owners WHERE id = %s", (owner,))

    async def _reap(self, connection: AsyncConnection[Any]) -> bool:
        """Free the claims and unused calls of dead and silent processes; return whether there were any."""
        found = False
        path = _counters_path()
        for owner, token, expired in await _fetch(
            connection,
            "SELECT id, token, expires < clock_timestamp() FROM accucheck.owners WHERE id <> %s",
            (self._owner,),
        ):
            # A file that is not here is on another machine, or it is gone and its row will be.
            died = bool(token) and process_of(path, token) is not None and dead(path, token)
            if not died and not expired:
                continue
            async with connection.transaction():
                if not await _fetch(
                    connection,
                    "SELECT 1 FROM accucheck.owners WHERE id = %s FOR UPDATE SKIP LOCKED",
                    (owner,),
                ):
                    continue
                await self._end_owner(connection, owner, token=token)
                found = True
            if died:
                remove(path, token)
        return found

    # Answers and claims

    async def find(self, numbers: Sequence[int], query: Query) -> dict[int, Settlement]:
        return await self._do(lambda connection: self._find(connection, numbers, query))

    async def _find(
        self, connection: AsyncConnection[Any], numbers: Sequence[int], query: Query
    ) -> dict[int, Settlement]:
        choice: Choice[bytes] = Choice(query)
        cursor = await connection.execute(FIND, (choice.all_keys(numbers),), binary=True)
        try:
            return choice.known(await cursor.fetchall())
        except msgspec.MsgspecError as trouble:
            raise ledger_error(self.name, trouble) from trouble

    async def claim(self, numbers: Sequence[int], query: Query) -> Claims:
        taken = {number for number in numbers if number in self._claimed}
        free = [number for number in dict.fromkeys(numbers) if number not in taken]
        self._claimed.update(free)
        work = asyncio.ensure_future(self._do(lambda connection: self._claim(connection, free, query)))
        # Even if the caller is cancelled, what was claimed for it is recorded or released.
        try:
            claims = await asyncio.shield(work)
        except asyncio.CancelledError:

            def release(_: object) -> None:
                self._claimed.difference_update(free)
                if self._pool is not None and not work.cancelled() and work.exception() is None:
                    self._releasing = asyncio.ensure_future(self._unclaim(free))

            work.add_done_callback(release)
            raise
        except BaseException:
            self._claimed.difference_update(free)
            raise
        self._claimed.difference_update(claims.known, claims.taken)
        return Claims(claims.known, taken | claims.taken, claims.asked)

    async def _claim(self, connection: AsyncConnection[Any], numbers: list[int], query: Query) -> Claims:
        # First claimed, then looked up: who settles an answer drops its claim with it, so an answer is seen by
        # the next owner of the claim.
        parameters = {"owner": self._owner, "keys": [claim_key(number) for number in numbers]}
        left = {number_of(key): at for key, at in await _fetch(connection, _LEFT, parameters)}
        granted = {number_of(key) for (key,) in await _fetch(connection, _CLAIM, parameters)}
        known = await self._find(connection, numbers, query)
        needless = [claim_key(number) for number in known if number in granted]
        if needless:
            await connection.execute(_UNCLAIM, (self._owner, needless))
        return Claims(
            known,
            {number for number in numbers if number not in granted and number not in known},
            {number: at for number, at in left.items() if number in granted and number not in known},
        )

    async def release(self, numbers: Sequence[int]) -> None:
        held = [number for number in numbers if number in self._claimed]
        if held:
            try:
                await self._unclaim(held)
            finally:
                self._claimed.difference_update(held)

    async def _unclaim(self, numbers: list[int]) -> None:
        await self._query(_UNCLAIM, (self._owner, [claim_key(number) for number in numbers]))

    async def settle(
        self,
        settlements: Sequence[Settlement],
        *,
        endpoint: Endpoint = "advanced",
        job: str = "",
        release: bool = True,
    ) -> None:
        now = self._now()
        rows: dict[int, Row] = {}
        for settlement in settlements:
            row = row_of(settlement, endpoint, now)
            before = rows.get(row[0])
            if before is None or before[1] <= row[1]:
                rows[row[0]] = row  # a statement may touch a row once
        ordered = [rows[key] for key in sorted(rows)]  # all in one order, so that nobody waits for each other
        released = [number_of(row[0]) for row in ordered] if release else []
        await self._query(
            _UPSERT,
            {
                "owner": self._owner,
                "claims": [claim_key(number) for number in released],
                "job": job,
                "lost": sum(settlement.possibly_double_charged for settlement in settlements),
                "made": self._made[job],
                "keys": [row[0] for row in ordered],
                "at": [row[1] for row in ordered],
                "whatsapp": [row[2] for row in ordered],
                "packed": [row[3] for row in ordered],
            },
        )
        self._claimed.difference_update(released)
        if self._process is not None and job in self._slots:
            self._process.count_settled(self._slots[job], sum(settlement.calls for settlement in settlements))

    # Calls

    async def lease_calls(self, wanted: int, *, max_calls: int | None, job: str = "", each: int = 1) -> int:
        async def work(connection: AsyncConnection[Any]) -> int:
            granted = await self._lease(connection, wanted, max_calls, job, each)
            if not granted and await self._reap(connection):
                granted = await self._lease(connection, wanted, max_calls, job, each)
            return granted

        return await self._do(work)

    async def _lease(
        self, connection: AsyncConnection[Any], wanted: int, max_calls: int | None, job: str, each: int
    ) -> int:
        async with connection.transaction():
            await self._report(connection)
            await connection.execute(
                "INSERT INTO accucheck.jobs (name) VALUES (%s) ON CONFLICT DO NOTHING", (job,)
            )
            await connection.execute("SELECT 1 FROM accucheck.jobs WHERE name = %s FOR UPDATE", (job,))
            ((spent, sharers),) = await _fetch(connection, _SPENT, {"job": job, "owner": self._owner})
            if max_calls is not None:
                left = max_calls - int(spent)
                wanted = min(wanted, left, max(each, left // (2 * (sharers + 1))))
            wanted -= wanted % each
            if wanted <= 0:
                return 0
            await connection.execute(
                """INSERT INTO accucheck.leases AS lease VALUES (%s, %s, %s, %s, 0)
                ON CONFLICT (job, owner) DO UPDATE SET granted = lease.granted + excluded.granted""",
                (self._owner, job, self._take_slot(job), wanted),
            )
        return wanted

    def note_call(self, job: str = "", calls: int = 1) -> None:
        self._made[job] += calls
        if self._process is not None and job in self._slots:
            self._process.count_made(self._slots[job], calls)

    async def return_calls(self, unused: int, *, lost: int = 0, job: str = "") -> None:
        async def work(connection: AsyncConnection[Any]) -> None:
            made = self._made[job]
            async with connection.transaction():
                if lost:
                    await connection.execute(_COUNT, (job, 0, lost, 0))
                left = await _fetch(
                    connection,
                    """UPDATE accucheck.leases SET granted = granted - %s, made = %s
                    WHERE owner = %s AND job = %s RETURNING granted""",
                    (unused, made, self._owner, job),
                )
                if left and made < left[0][0]:
                    return
                if left:
                    await connection.execute(_COUNT, (job, made, 0, 0))
                    await connection.execute(
                        "DELETE FROM accucheck.leases WHERE owner = %s AND job = %s", (self._owner, job)
                    )
            self._made[job] -= made
            if not self._made[job]:
                del self._made[job]
                self._free_slot(job)

        await self._do(work)

    async def calls_made(self, job: str = "") -> int:
        ((made,),) = await self._query(
            """SELECT coalesce((SELECT calls FROM accucheck.jobs WHERE name = %(job)s), 0)
            + coalesce((SELECT sum(made) FROM accucheck.leases WHERE job = %(job)s AND owner <> %(owner)s), 0)""",
            {"job": job, "owner": self._owner},
        )
        return int(made) + self._made[job]

    # Settings

    async def recall(self, name: str) -> str | None:
        rows = await self._query("SELECT value FROM accucheck.settings WHERE name = %s", (name,))
        return str(rows[0][0]) if rows else None

    async def remember(self, name: str, value: str) -> None:
        await self._query(
            """INSERT INTO accucheck.settings VALUES (%s, %s)
            ON CONFLICT (name) DO UPDATE SET value = excluded.value""",
            (name, value),
        )

    # Permits

    async def lease_permits(self, request: PermitRequest) -> Permits:
        return await self._do(lambda connection: self._lease_permits(connection, request))

    async def _lease_permits(self, connection: AsyncConnection[Any], request: PermitRequest) -> Permits:
        account = request.account
        look = {"account": account, "synchronous": "on" if request.quotas else "off"}
        async with connection.transaction():
            if not (rows := await _fetch(connection, _LOOK, look)):
                await connection.execute(
                    "INSERT INTO accucheck.paces VALUES (%s, %s) ON CONFLICT DO NOTHING",
                    (account, msgspec.json.encode(Pace(rate=request.start.rate)).decode()),
                )
                rows = await _fetch(connection, _LOOK, look)
            pace, now = _pace_of(rows[0][0]), rows[0][1]
            permits = lease(pace, request, owner=seat_of(self._owner, request), now=now, wall=now)
            if permits.leads and not request.leaves:
                reports = await _fetch(
                    connection,
                    "DELETE FROM accucheck.reports WHERE account = %s RETURNING outcomes",
                    (account,),
                )
                permits.reports.extend(_outcomes_of(report) for (report,) in reports)
            elif request.outcomes:
                await connection.execute(
                    "INSERT INTO accucheck.reports (account, outcomes) VALUES (%s, %s)",
                    (account, msgspec.json.encode(request.outcomes).decode()),
                )
            await connection.execute(
                "UPDATE accucheck.paces SET pace = %s WHERE account = %s",
                (msgspec.json.encode(pace).decode(), account),
            )
        return permits

    # The connection

    async def _query(self, query: LiteralString, parameters: _Parameters) -> list[tuple[Any, ...]]:
        return await self._do(lambda connection: _fetch(connection, query, parameters))

    async def _do(
        self, work: Callable[[AsyncConnection[Any]], Awaitable[Result]], *, patience: float | None = None
    ) -> Result:
        """Do ``work`` on a connection, and again if the connection is lost. All work may be done twice."""
        if self._pool is None:
            raise RuntimeError("the store is not open: await store.open() first")
        psycopg = psycopg_module()
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + (self._patience if patience is None else patience)
        pause = 0.05
        while True:
            try:
                async with self._pool.connection(timeout=max(give_up_at - loop.time(), 0.1)) as connection:
                    return await work(connection)
            except (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure) as trouble:
                lasting = trouble
            except (psycopg.OperationalError, psycopg.InterfaceError) as trouble:
                lasting = trouble
            except psycopg.Error as trouble:
                raise ledger_error(self.name, trouble) from None
            if loop.time() + pause > give_up_at:
                raise ledger_error(self.name, lasting) from None
            await asyncio.sleep(pause)
            pause = min(2 * pause, 1.0)


async def _fetch(
    connection: AsyncConnection[Any], query: LiteralString, parameters: _Parameters
) -> list[tuple[Any, ...]]:
    """Run a statement; return its rows, if it has any."""
    cursor = await connection.execute(query, parameters)
    return await cursor.fetchall() if cursor.description else []


def _counters_path() -> Path:
    """Return the path beside which processes of this machine have their counters; another after it was restarted."""
    return Path(tempfile.gettempdir()) / f"accucheck-postgres-{boot_id()[:8]}"


def psycopg_module() -> Any:
    try:
        import psycopg
        import psycopg_pool  # noqa: F401 (the other half of the extra)
    except ImportError:
        raise ConfigurationError(
            "a ledger in PostgreSQL needs another package: pip install 'accucheck[postgres]'"
        ) from None
    return psycopg


def check_server(connection: AsyncConnection[Any] | Connection[Any], name: str) -> None:
    version = connection.info.server_version
    if version < _OLDEST_SERVER:
        raise LedgerError(f"ledger {name}: PostgreSQL 15 or later is required, not {version // 10_000}")


def check_version(row: tuple[Any, ...] | None, name: str) -> None:
    if row is None or row[0] > VERSION:
        raise LedgerError(f"ledger {name}: it was created by a newer accucheck: upgrade this one")


def ledger_error(name: str, trouble: Exception) -> LedgerError:
    words = " ".join(str(trouble).split())
    kind = type(trouble).__name__
    if kind == "InsufficientPrivilege":
        reason = f"the database role lacks a permission: grant the permissions listed in the documentation ({words})"
    elif kind == "UndefinedTable":
        reason = "it has no tables yet: create them with accucheck ledger init"
    elif kind in ("DiskFull", "OutOfMemory"):
        reason = f"the server is out of space: {words}"
    elif isinstance(trouble, msgspec.MsgspecError):
        reason = f"an answer cannot be read ({words})"
    else:
        reason = f"the database is unavailable ({words or kind}): start it, then run the same command again"
    return LedgerError(f"ledger {name}: {reason}")
