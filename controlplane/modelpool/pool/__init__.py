"""What runs: the lifecycle of every model and the ledger of what it takes."""
