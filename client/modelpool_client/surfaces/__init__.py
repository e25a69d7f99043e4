"""What clients may ask, under which paths and in which shapes: for whoever answers or passes it on.

Gateway and workers hold a request against the same tables, so that it is refused in the same words
wherever that happens. ``import modelpool_client`` does not bring them along.
"""
