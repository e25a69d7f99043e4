"""Batches for engines without continuous batching: who waits, how many are computed together, and
for how long it pays to wait for more."""
