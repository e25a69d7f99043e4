"""A plug folder: a file for each kind of job. See ``jobs.base`` for the contract."""
