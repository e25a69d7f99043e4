"""Targets of alerts: how a message looks there. One file each; strangers join by entry point."""
