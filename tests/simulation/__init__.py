"""The whole control plane on virtual time, one seed deciding everything."""
