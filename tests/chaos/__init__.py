"""A pool under random faults, and the rules that hold all the same. See docs/chaos.md."""
