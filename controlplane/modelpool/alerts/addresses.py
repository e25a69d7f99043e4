"""Where targets are. An address may be a secret: no error here holds one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from .settings import AlertTargetSettings

LONGEST = 4096


class NoAddress(Exception):
    """There is none; the text says why, without what was found."""


def address_of(settings: AlertTargetSettings, environ: Mapping[str, str] = os.environ) -> str:
    """The address of a target; reads a file.

    Raises:
        NoAddress: there is none.
    """
    if settings.url is not None:
        return settings.url
    if settings.url_variable is not None:
        where = f"the environment variable {settings.url_variable}"
        found = environ.get(settings.url_variable, "")
        if not found:
            raise NoAddress(f"{where} is not set: the manager has to be started with it")
    else:
        where = f"url_file {settings.url_file}"
        try:
            with Path(settings.url_file or "").expanduser().open(encoding="utf-8") as file:
                found = file.read(LONGEST)
        except (OSError, ValueError) as e:
            why = e.strerror if isinstance(e, OSError) and e.strerror else "it is not text"
            raise NoAddress(f"{where} cannot be read: {why}") from None
    address = found.strip()
    if not _is_address(address):
        raise NoAddress(f"{where} holds no address that begins with http:// or https://")
    return address


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
