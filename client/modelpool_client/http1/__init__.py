"""HTTP/1.1 as a relay needs it: a server, a client, and the way from one to the other.

Gateway and worker front stand on it. ``asyncio.Protocol`` and httptools on both sides and nothing
in between, because what costs a Python relay its time is not Python but the layers: with ASGI on
one side and a general client on the other it passed on a seventh of the requests.

The base install does not import it; it needs the extra ``server``.
"""
