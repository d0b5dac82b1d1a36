"""What is known of each number, and what is bought, kept: in a file, or in memory for one run. All the SQL."""

from accucheck._ledger._info import LedgerInfo
from accucheck._ledger._ledger import Ledger
from accucheck._ledger._memory import MemoryStore
from accucheck._ledger._store import AnswerStore

__all__ = ["AnswerStore", "Ledger", "LedgerInfo", "MemoryStore"]
