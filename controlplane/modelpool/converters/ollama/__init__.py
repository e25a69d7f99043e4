"""Ollama's environment variables, where its service has them from, and its store."""
