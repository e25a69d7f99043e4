"""PURE. Whether requests are traced and which, by the configuration and OpenTelemetry's own
variables of the environment."""

from __future__ import annotations

from collections.abc import Mapping

from modelpool_client.wire import Tracing

ALL, NONE = 1.0, 0.0
OFF = Tracing()
_PARENT_BASED = "parentbased_"


def tracing(how: str, ratio: float | None, to_remote: bool, environ: Mapping[str, str]) -> Tracing:
    """``how`` is ``traces``, ``ratio`` ``traces_sample_ratio``; what a client says of its request
    goes before that, whether the sampler's name says so or not."""
    is_off = _says(environ, "OTEL_SDK_DISABLED", "true") or _says(
        environ, "OTEL_TRACES_EXPORTER", "none"
    )
    if how == "off" or is_off:
        return OFF
    return Tracing(True, sampler_ratio(environ) if ratio is None else ratio, to_remote)


def sampler_ratio(environ: Mapping[str, str]) -> float:
    """Of OTEL_TRACES_SAMPLER and its argument; what makes no sense there counts as unset, which
    OpenTelemetry wants so."""
    name = environ.get("OTEL_TRACES_SAMPLER", "").strip().lower().removeprefix(_PARENT_BASED)
    if name == "always_off":
        return NONE
    if name != "traceidratio":
        return ALL
    try:
        ratio = float(environ.get("OTEL_TRACES_SAMPLER_ARG", ""))
    except ValueError:
        return ALL
    return ratio if NONE <= ratio <= ALL else ALL


def _says(environ: Mapping[str, str], name: str, value: str) -> bool:
    return environ.get(name, "").strip().lower() == value
