"""For all tests: property tests draw the same examples everywhere, or a failure could not be met
again; the long random runs are ``make simulate`` and ``make chaos``."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("steady", derandomize=True, deadline=None, database=None)
settings.load_profile("steady")
