"""The kinds of virtual models: a contract, a registry, a file for each."""
