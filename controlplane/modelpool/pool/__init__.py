"""What runs: the lifecycle of every model and the resources that it takes."""
