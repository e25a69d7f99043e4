"""Servers elsewhere that compute: asked with a key, within their limits, and never twice."""
