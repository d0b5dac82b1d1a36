"""The ledger as the engine still uses it; goes when the engine has moved to ``Store``."""
