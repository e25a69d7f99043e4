"""Whom we tell about HOT workers: a lazy table of registries, entry points for strangers.

A plug-in's package declares, in the group ``modelpool.registrars``, ``kind = "module:Class"``; the
class is called as ``Class(settings, pool_id, session)`` and follows ``base.Registrar``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from modelpool_client.errors import ModelPoolError

if TYPE_CHECKING:
    import aiohttp

    from .base import Registrar
    from .settings import RegistrarSettings

__all__ = ["GROUP", "BadRegistrar", "create", "is_known", "kinds"]

GROUP = "modelpool.registrars"
BUILT_IN = {
    "http": "modelpool.registrars.http:HttpRegistrar",
    "etcd": "modelpool.registrars.etcd:EtcdRegistrar",
    "consul": "modelpool.registrars.consul:ConsulRegistrar",
}


class BadRegistrar(ModelPoolError):
    """A registrar of the configuration cannot be made: its code or its token file is missing."""

    default_code = "bad_config"


def kinds() -> list[str]:
    """Every kind there is, built in or plugged in."""
    return sorted({*BUILT_IN, *_plugins()})


def is_known(kind: str) -> bool:
    """Is there such a kind? Packages are searched only where the name is none of ours."""
    return kind in BUILT_IN or kind in _plugins()


def create(settings: RegistrarSettings, pool_id: str, session: aiohttp.ClientSession) -> Registrar:
    """The registrar that ``settings`` describe, for the records of one pool.

    Raises:
        BadRegistrar: it cannot be imported, or its token file cannot be read.
    """
    where = BUILT_IN.get(settings.kind) or _plugins().get(settings.kind, "")
    module, _, attribute = where.partition(":")
    try:
        made: Registrar = getattr(import_module(module), attribute)(settings, pool_id, session)
    except (ImportError, AttributeError, ValueError) as e:
        raise BadRegistrar(f"registrars: {settings.kind!r} cannot be loaded: {e}") from e
    except OSError as e:
        raise BadRegistrar(
            f"registrars: token_file {settings.token_file} cannot be read: {e.strerror}"
        ) from e
    return made


def _plugins() -> dict[str, str]:
    from importlib.metadata import entry_points

    return {e.name: e.value for e in entry_points(group=GROUP)}
