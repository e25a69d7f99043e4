"""How fast models are here: measured by real requests, and options found by trying them."""
