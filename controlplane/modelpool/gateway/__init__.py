"""How a request passes: read the name, get a grant, relay bytes."""
