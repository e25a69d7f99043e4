"""From where the worker of a model runs: its environment, and the devices that it is shown."""

from __future__ import annotations

from modelpool_client.errors import NotFound

from modelpool.catalog.model import Model
from modelpool.engines import Engines
from modelpool.launchers import LaunchError, Site
from modelpool.pool.devices import Devices


class ModelSites:
    """See ``Sites``."""

    def __init__(self, engines: Engines, devices: Devices) -> None:
        self._engines = engines
        self._devices = devices

    def is_common(self, model: Model) -> bool:
        """The manager's own environment, and all devices."""
        return model.devices is None and not self._engines.known_environment_of(model)

    async def of(self, model: Model) -> Site:
        """As they are now.

        Raises:
            LaunchError: there is no such environment, or a device is not seen.
        """
        try:
            python = await self._engines.python_for(model)
        except NotFound as e:
            raise LaunchError(e.message) from None
        if model.devices is None:
            return Site(python)
        seen = await self._devices.refresh()
        if missing := seen.unknown(model.devices):
            names = ", ".join(repr(name) for name in missing)
            there = ", ".join(f"{d.id} ({d.name})" for d in seen.devices) or "none"
            raise LaunchError(
                f"{model.model_id} is kept to devices of which {names} is not seen here;"
                f" there are: {there}"
            )
        return Site(python, seen.variables(model.devices))
