"""What is seen: events, metrics, usage."""
