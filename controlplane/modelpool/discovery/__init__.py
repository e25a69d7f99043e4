"""Which models are on the disk: found in a child process, merged into the catalog, watched."""
