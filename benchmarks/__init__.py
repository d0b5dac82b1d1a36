"""Benchmarks of accucheck and its peers: ``python -m benchmarks SUITE``. See benchmarks/README.md."""
