"""PURE. Routes of other servers' own APIs, told in OpenAI's words: a file for each server."""
