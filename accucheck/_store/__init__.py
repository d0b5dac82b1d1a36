"""What is known of each number, and what is bought, kept: in a file, or in memory for one run. All the SQL."""

from accucheck._store._info import LedgerInfo
from accucheck._store._ledger import Ledger
from accucheck._store._memory import MemoryStore
from accucheck._store._old_memory import OldMemoryStore
from accucheck._store._old_protocol import AnswerStore
from accucheck._store._protocol import Claims, Endpoint, Query, Store

__all__ = [
    "AnswerStore",
    "Claims",
    "Endpoint",
    "Ledger",
    "LedgerInfo",
    "MemoryStore",
    "OldMemoryStore",
    "Query",
    "Store",
]
