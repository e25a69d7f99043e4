"""Checks on a machine with a GPU what the pool says and does about devices; see ``--help``."""
