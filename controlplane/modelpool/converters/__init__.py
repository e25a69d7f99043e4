"""Settings of other programs as a config file of ours: ``poolctl import llama-swap`` and others.

A file for each program reads its settings; converting them is PURE.
"""
