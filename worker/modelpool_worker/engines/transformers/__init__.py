"""Hugging Face's transformers."""
