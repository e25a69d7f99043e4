"""``poolctl``: the pool from a terminal, over the same client that programs use."""

from modelpool_client.cli.app import app, main

__all__ = ["app", "main"]
