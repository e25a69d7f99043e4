"""LM Studio's folder: its settings, and what it keeps for each model."""
