"""Servers of Ollama as a place that models are found at and pulled to; asked in jobs' processes."""
