"""Benchmarks of accucheck beside its peers: ``python -m benchmarks SUITE``. See benchmarks/README.md."""
