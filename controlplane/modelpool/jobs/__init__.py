"""What takes longer than a request: one resource, one runner, one table, a file for each kind."""
