"""Engines that speak or listen, a file each."""
