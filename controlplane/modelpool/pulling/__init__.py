"""Models fetched from where they are published: a plug folder, a file for each origin."""
