"""The thin client of a model pool: resolve endpoints, load and unload, chat."""

__version__ = "0.1.0"
