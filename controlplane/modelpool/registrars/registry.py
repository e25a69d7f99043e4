"""Makes registrars: each is imported only when the configuration names its kind."""

from __future__ import annotations

from importlib import import_module

from modelpool_client.errors import ModelPoolError

from .base import Registrar
from .client import RegistryClient
from .kinds import location
from .settings import RegistrarSettings


class BadRegistrar(ModelPoolError):
    """A registrar of the configuration cannot be made: its code or its token file is missing."""

    default_code = "bad_config"


def create(settings: RegistrarSettings, pool_id: str, client: RegistryClient) -> Registrar:
    """The registrar that ``settings`` describe, for the records of one pool.

    Raises:
        BadRegistrar: it cannot be imported, or its token file cannot be read.
    """
    module, _, attribute = location(settings.kind).partition(":")
    try:
        made: Registrar = getattr(import_module(module), attribute)(settings, pool_id, client)
    except (ImportError, AttributeError, ValueError) as e:
        raise BadRegistrar(f"registrars: {settings.kind!r} cannot be loaded: {e}") from e
    except OSError as e:
        raise BadRegistrar(
            f"registrars: token_file {settings.token_file} cannot be read: {e.strerror}"
        ) from e
    return made
