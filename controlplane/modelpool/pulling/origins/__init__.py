"""A file for each place that models come from. See ``pulling.base`` for the contract."""
