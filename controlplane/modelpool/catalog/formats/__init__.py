"""A plug folder: a file for each format of model files. See ``base`` for the contract."""
