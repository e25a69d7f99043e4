"""What an engine child may see of the environment."""

from __future__ import annotations

import re
from collections.abc import Mapping

_SECRET_NAME = re.compile(
    r"_API_KEY$|_TOKEN$|_SECRET$|_PASSWORD$|_ACCESS_KEY$|^MODELPOOL_.*(SECRET|KEY|TOKEN|PASSWORD)"
)


def child_environment(environment: Mapping[str, str], **more: str) -> dict[str, str]:
    """Everything that is no secret, and ``more``."""
    kept = {k: v for k, v in environment.items() if not _SECRET_NAME.search(k.upper())}
    return {**kept, **more}
