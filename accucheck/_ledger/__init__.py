"""What was bought: the durable ledger, and a store for runs without one. All SQL is in this room."""

from accucheck._ledger._ledger import Ledger, LedgerInfo
from accucheck._ledger._memory import MemoryStore
from accucheck._ledger._store import AnswerStore

__all__ = ["AnswerStore", "Ledger", "LedgerInfo", "MemoryStore"]
