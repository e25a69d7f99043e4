"""What an engine child may see of the environment."""

from __future__ import annotations

import re
from collections.abc import Mapping

_SECRET_NAME = re.compile(
    r"^OTEL_EXPORTER_.*_HEADERS$|_API_KEY$|_TOKEN$|_SECRET$|_PASSWORD$|_ACCESS_KEY$|^MODELPOOL_.*(SECRET|KEY|TOKEN|PASSWORD)"
)
# Libraries of engines that tell their makers of their use do not, unless the user says otherwise.
# onnxruntime, and what brings it along, does from 1.29 on, and would from its import.
UNTOLD = {"ORT_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


def child_environment(environment: Mapping[str, str], **more: str) -> dict[str, str]:
    """Everything that is no secret, what keeps libraries from telling of their use, and
    ``more``."""
    kept = {k: v for k, v in environment.items() if not _SECRET_NAME.search(k.upper())}
    return {**UNTOLD, **kept, **more}
