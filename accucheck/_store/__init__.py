"""Stores: what is known about each number, in memory, a SQLite file or PostgreSQL. Contains all the SQL."""

from accucheck._store._file import account_ledger_path
from accucheck._store._ledger import JobCalls, Ledger, LedgerInfo, account_ledgers, as_store
from accucheck._store._memory import Bitset, MemoryStore
from accucheck._store._permits import HORIZON, Outcomes, Pacing, PermitRequest, Permits, PermitStore
from accucheck._store._postgres import PostgresStore, init_postgres, is_postgres
from accucheck._store._protocol import COUNTS_MONEY, Claims, Endpoint, EndpointChoice, Query, Store
from accucheck._store._repair import Repaired, repair
from accucheck._store._sqlite import SQLiteStore

__all__ = [
    "COUNTS_MONEY",
    "HORIZON",
    "Bitset",
    "Claims",
    "Endpoint",
    "EndpointChoice",
    "JobCalls",
    "Ledger",
    "LedgerInfo",
    "MemoryStore",
    "Outcomes",
    "Pacing",
    "PermitRequest",
    "PermitStore",
    "Permits",
    "PostgresStore",
    "Query",
    "Repaired",
    "SQLiteStore",
    "Store",
    "account_ledger_path",
    "account_ledgers",
    "as_store",
    "init_postgres",
    "is_postgres",
    "repair",
]
