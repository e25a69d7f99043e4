"""What is right in a configuration, or may be by and by, but deserves a word at the start."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from modelpool_client.surfaces.names import answers_to

from .config_keys import PoolConfig, machine_memory_mb
from .config_synonyms import WITHOUT_EFFECT


def remarks(config: PoolConfig, environ: Mapping[str, str]) -> Iterator[str]:
    """Warnings: a limit can still be raised while the pool runs, and a file may come."""
    if config.memory_limit_mb > machine_memory_mb():
        limit = _shown(config, "memory_limit_mb")
        yield f"memory_limit_mb is {limit}, the machine has {machine_memory_mb()}"
    for name, why in WITHOUT_EFFECT.items():
        if name in environ:
            yield f"{name} has no effect: {why}"
    ageing, wait = config.priority_ageing_seconds, config.load_wait_seconds
    if 2 * ageing >= wait:
        yield (
            f"priority_ageing_seconds is {_shown(config, 'priority_ageing_seconds')}: a low request"
            f" is as urgent as a new high one after twice that, and gives up before, after"
            f" load_wait_seconds, {_shown(config, 'load_wait_seconds')}"
        )
    yield from _limits(config)


def _limits(config: PoolConfig) -> Iterator[str]:
    most = _shown(config, "max_concurrent_models")
    warm = [
        m
        for m in config.models
        if m.warmup or any(answers_to(m.names, name) for name in config.warmup_models)
    ]
    copies = sum(m.min_replicas for m in warm)
    if copies > config.max_concurrent_models:
        yield f"{copies} copies are to be HOT from the start, max_concurrent_models is {most}"
    if len(config.port_range) < config.max_concurrent_models:
        yield (
            f"max_concurrent_models is {most}, but port_range has {len(config.port_range)} ports,"
            " one for each"
        )
    for model in warm:
        if model.ttl_minutes:
            yield f"ttl_minutes of {model.model_id} has no effect: a warm-up model never expires"
        if any(each["action"] == "unload" for each in model.schedule):
            yield f"the schedule of {model.model_id} cannot unload it: a warm-up model stays"


def _shown(config: PoolConfig, key: str) -> str:
    return str(config.templates.get(key, getattr(config, key)))
