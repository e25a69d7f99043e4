"""The benchmark of the pool: ``python scripts/bench``. See docs/benchmarks.md."""
