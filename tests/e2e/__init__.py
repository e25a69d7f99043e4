"""Whole pools: real processes on real ports."""
