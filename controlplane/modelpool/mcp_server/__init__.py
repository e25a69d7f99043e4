"""The pool as tools, at ``/mcp``: Model Context Protocol (https://modelcontextprotocol.io)."""
