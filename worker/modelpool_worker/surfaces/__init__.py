"""The APIs that a worker speaks towards its clients."""
