"""A worker: one process group that serves one model on one port."""

from modelpool_client import __version__

__all__ = ["__version__"]
