"""/presets, and the two JSON files of the fourth document: parameters by name and by class."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Query
from modelpool_client.errors import Conflict, NotFound

from modelpool.api.answers import Presets, VirtualModelChanged
from modelpool.api.openapi import refuses
from modelpool.api.route import ApiRoute
from modelpool.api.virtual_models import virtual_view
from modelpool.catalog.errors import StoreError
from modelpool.routing import class_files
from modelpool.routing.presets import BUILT_IN
from modelpool.routing.virtual_models import Change
from modelpool.services import Services

Name = Annotated[
    str, Query(min_length=1, max_length=255, description="The virtual model that holds them")
]
_VALUES = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"type": "object"}}},
    }
}


def routes(services: Services) -> APIRouter:
    """The routes of one pool."""
    router = APIRouter(tags=["routing"], route_class=ApiRoute)
    models = services.virtual_models

    @router.get("/presets")
    async def list_() -> Presets:
        """Every preset with its values: Conservative, Balanced, Creative, and own ones."""
        return _presets()

    @router.put(
        "/presets/{name:path}", responses=refuses(NotFound, StoreError), openapi_extra=_VALUES
    )
    async def put(name: str, values: Annotated[Any, Body()]) -> Presets:
        """Make a preset, or put it in the place of the one of that name, ours included."""
        await models.put_presets({name: values})
        return _presets()

    @router.delete("/presets/{name:path}", responses=refuses(NotFound, StoreError))
    async def delete(name: str) -> Presets:
        """Remove one that was made at run time; what stood there before counts again."""
        await models.drop_preset(name)
        return _presets()

    @router.get("/model-preferences", responses=refuses(Conflict))
    async def preferences(name: Name = class_files.NAME) -> dict[str, Any]:
        """`model_preferences.json`: the models for each class of caller; empty: none is set."""
        return class_files.preferences_of(_entry(name))

    @router.put(
        "/model-preferences", responses=refuses(Conflict, StoreError), openapi_extra=_VALUES
    )
    async def put_preferences(
        data: Annotated[Any, Body()], name: Name = class_files.NAME
    ) -> VirtualModelChanged:
        """Take over a `model_preferences.json`; what callers of a class ask is the virtual model
        `preferred`."""
        entry = class_files.with_preferences(_entry(name), data)
        return _changed(await models.put(name, entry, "model preferences were imported"))

    @router.get("/advanced-model-settings", responses=refuses(Conflict))
    async def settings(name: Name = class_files.NAME) -> dict[str, Any]:
        """`advanced_model_settings.json`: presets, and parameters for each class of caller."""
        return class_files.settings_of(_entry(name), models.all_presets())

    @router.put(
        "/advanced-model-settings", responses=refuses(Conflict, StoreError), openapi_extra=_VALUES
    )
    async def put_settings(
        data: Annotated[Any, Body()], name: Name = class_files.NAME
    ) -> VirtualModelChanged:
        """Take over an `advanced_model_settings.json`: its presets, then its classes."""
        found = class_files.read_settings(data)
        own = {n: v for n, v in found.presets.items() if BUILT_IN.get(n) != v}
        await models.put_presets(own)
        if not found.classes:
            return {"message": f"{len(own)} presets", "virtual_model": None, "warnings": []}
        entry = class_files.with_settings(_entry(name), found.classes)
        return _changed(await models.put(name, entry, "advanced model settings were imported"))

    def _entry(name: str) -> dict[str, Any]:
        """Of the virtual model that holds them; empty where there is none."""
        found = next((each for each in models if each.name == name), None)
        if found is not None and found.kind != class_files.KIND:
            raise Conflict(f"{name} is of kind {found.kind}, not {class_files.KIND}", param="name")
        return found.as_entry() if found is not None else {}

    def _presets() -> Presets:
        presets = {name: dict(values) for name, values in models.all_presets().items()}
        return {"presets": presets, "built_in": list(BUILT_IN)}

    def _changed(change: Change) -> VirtualModelChanged:
        view = virtual_view(change.model, services) if change.model is not None else None
        text = f"{change.name} is at version {change.version}"
        return {"message": text, "virtual_model": view, "warnings": list(change.warnings)}

    return router
