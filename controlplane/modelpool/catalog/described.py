"""What the files of models say of them, and which of them cannot be read."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable
from typing import TypeAlias

from modelpool.catalog.catalog import Catalog
from modelpool.catalog.errors import BadModelFile, StoreError
from modelpool.catalog.estimator import Estimator
from modelpool.catalog.model import Model
from modelpool.catalog.store import Store

log = logging.getLogger(__name__)

# Is told of a model and of what will keep it from being loaded.
Warn: TypeAlias = Callable[[Model, str], object]
Warnings: TypeAlias = list[tuple[Model, str]]


async def open_catalog(
    store: Store,
    models: Collection[Model],
    estimator: Estimator,
    is_needed: Callable[[Model], bool],
) -> tuple[Catalog, Warnings]:
    """The catalog with the models of the config file, and what was found about these.

    Read are the files of those that are new or say something else than before, and of those that
    ``is_needed`` at once: of the others what was read before stands in the store, and they may be
    many.

    Raises:
        Conflict: as ``Catalog.adopt_config``.
    """
    found: Warnings = []

    def warn(model: Model, text: str) -> None:
        found.append((model, text))

    catalog = await Catalog.stored(store)
    known = {}
    for model in models:
        old = catalog.by_id.get(model.model_id)
        if old is not None and old.is_said_by(model) and not is_needed(model):
            known[model.model_id] = old
    told = await described_all(
        [model for model in models if model.model_id not in known], estimator, warn
    )
    catalog.config_report = await catalog.adopt_config((*known.values(), *told))
    for model in catalog:
        if model.origin == "api" and is_needed(model):
            await _describe_registered(catalog, model, estimator, warn)
    return catalog, found


async def _describe_registered(
    catalog: Catalog, model: Model, estimator: Estimator, warn: Warn
) -> None:
    """Its files may have been replaced while no manager ran."""
    described = await described_if_possible(model, estimator, warn)
    if described.same_content(model):
        return
    log.info("%s: its files were replaced while no manager ran", model.model_id)
    try:
        await catalog.replace(described, model)
    except StoreError as e:
        log.warning("%s: that could not be written down: %s", model.model_id, e)


async def described_all(
    models: Iterable[Model], estimator: Estimator, warn: Warn
) -> tuple[Model, ...]:
    """Models of the config file with what their own files say."""
    models = tuple(models)
    described: list[Model] = []
    async for told in estimator.describe_all(models):
        model = models[len(described)]
        if isinstance(told, BadModelFile):
            _warn_of(model, told, warn)
        described.append(model if isinstance(told, BadModelFile) else told)
    return tuple(described)


async def described_if_possible(model: Model, estimator: Estimator, warn: Warn) -> Model:
    """The model as it is where its file cannot be read: loading it will say so again."""
    try:
        return await estimator.describe(model)
    except BadModelFile as e:
        _warn_of(model, e, warn)
        return model


def _warn_of(model: Model, error: BadModelFile, warn: Warn) -> None:
    warn(model, f"{error}; loading it will fail until the file is there and whole")
