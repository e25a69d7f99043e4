"""What the API can do, once, for every route that offers it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from modelpool_client.errors import Conflict, InvalidRequest, ModelNotFound, NotSupported
from modelpool_client.guard import Guard
from modelpool_client.http1.upstream import Upstream
from modelpool_client.response_store import ResponseStore
from modelpool_client.surfaces.chat_template import FAULT
from modelpool_client.surfaces.names import answers_to

from modelpool.alerts.alerts import Alerts
from modelpool.catalog import only_in_config
from modelpool.catalog.capability_book import CapabilityBook
from modelpool.catalog.catalog import Catalog, ImportReport
from modelpool.catalog.described import described_if_possible
from modelpool.catalog.errors import StoreError
from modelpool.catalog.estimator import Estimator
from modelpool.catalog.model import Model
from modelpool.catalog.option_files import file_problems
from modelpool.catalog.parse import parse_model
from modelpool.catalog.parse_rules import ParseRules, Problem, refuse
from modelpool.catalog.probe_results import ProbeResult
from modelpool.catalog.registry import sound_models
from modelpool.catalog.served_by import (
    is_provider,
    only_models_differ,
    provider_problems,
    served,
)
from modelpool.catalog.source_files import relative_problems, source_problems
from modelpool.catalog.store import Store
from modelpool.config import (
    LIVE_KEYS,
    PoolConfig,
    changes_between,
    patched,
    refuse_new_secrets,
)
from modelpool.controllers.preloads import PreloadController
from modelpool.controllers.pressure import PressureController
from modelpool.controllers.schedules import ScheduleController
from modelpool.discovery.discovery import Discovery
from modelpool.discovery.merge import ORIGIN
from modelpool.engines import Engines
from modelpool.environments.environment import Environments
from modelpool.gateway.breakers import Breakers
from modelpool.gateway.virtual import VirtualAnswers
from modelpool.jobs.runner import Jobs
from modelpool.measure.records import Measurements
from modelpool.model_files import ModelFiles
from modelpool.observe.captures import Captures
from modelpool.observe.ended import EndedRequests
from modelpool.observe.events import EventBus
from modelpool.observe.history import History
from modelpool.observe.metrics import Metrics
from modelpool.observe.peaks import PeakMeter
from modelpool.observe.publisher import EventPublisher
from modelpool.observe.requests import RequestLog
from modelpool.observe.usage import UsageMeter
from modelpool.observe.usage_hours import UsageHours
from modelpool.pool import prompt_caches
from modelpool.pool.admission import Refuse
from modelpool.pool.devices import Devices
from modelpool.pool.memory import HostMemory
from modelpool.pool.pool import Pool
from modelpool.pool.status import ReplicaStatus
from modelpool.pool.workers import Workers
from modelpool.pulling.pulls import Pulls
from modelpool.registrars.client import RegistryClient
from modelpool.registrars.registrars import Registrars
from modelpool.registrars.registry import BadRegistrar
from modelpool.restart import Restart
from modelpool.routing.graph import way_to
from modelpool.routing.known import PoolKnown
from modelpool.routing.names import AUTO
from modelpool.routing.outcomes import Outcomes
from modelpool.routing.virtual_models import Change, VirtualModels

log = logging.getLogger(__name__)


@dataclass
class Services:
    """Everything the routes need, built once in ``app``.

    Attributes:
        configured: what config file and environment said when they were last read.
        reloading: held by whoever reads them again, or changes the configuration.
        leaving: models that were deleted, by id, until their workers are gone.
        vanished: models whose files are gone, by id, and that still run.
        learning: what is being written down of what workers said.
    """

    catalog: Catalog
    pool: Pool
    guard: Guard
    workers: Workers
    events: EventBus
    publisher: EventPublisher
    history: History
    metrics: Metrics
    usage: UsageMeter
    usage_hours: UsageHours
    requests: RequestLog
    captures: Captures
    ended: EndedRequests
    engines: Engines
    environments: Environments
    devices: Devices
    estimator: Estimator
    capabilities: CapabilityBook
    peaks: PeakMeter
    upstream: Upstream
    registry_client: RegistryClient
    pool_id: str
    memory: HostMemory
    configured: PoolConfig
    registrars: Registrars
    restart: Restart
    schedules: ScheduleController
    preloads: PreloadController
    pressure: PressureController
    files: ModelFiles
    responses: ResponseStore
    jobs: Jobs
    store: Store
    discovery: Discovery
    pulls: Pulls
    measurements: Measurements
    virtual_models: VirtualModels
    breakers: Breakers
    alerts: Alerts
    virtual_answers: VirtualAnswers
    known: PoolKnown
    outcomes: Outcomes
    reloading: asyncio.Lock = dataclasses.field(default_factory=asyncio.Lock)
    leaving: dict[str, asyncio.Task[None]] = dataclasses.field(default_factory=dict)
    vanished: set[str] = dataclasses.field(default_factory=set)
    learning: set[asyncio.Task[None]] = dataclasses.field(default_factory=set)

    def __post_init__(self) -> None:
        self.catalog.admit = self._refuse_if_leaving
        self.virtual_models.tell = self.tell_virtual

    def status(self, name: str) -> ReplicaStatus:
        """How the model with that id or alias is.

        Raises:
            ModelNotFound: there is none.
        """
        return self.pool.status(self.catalog.get(name).model_id)

    async def register(self, data: object, trusted: Mapping[str, Any] | None = None) -> Model:
        """Add a model; the file is read, nothing is loaded. Files that its options name are held
        against the folders of the configuration, but for those of ``trusted`` options.

        Raises:
            ModelPoolError: why not; nothing was changed.
        """
        parsed = parse_model(
            data,
            known_engines=await self.engines.names(),
            ttl_range=self.pool.config.ttl_range,
        )
        await self._refuse_unfit(parsed, trusted)
        reading = await self.estimator.read(parsed)
        verdict = await self.engines.check(reading.model)

        def then(model: Model) -> None:
            self.estimator.take(reading)
            self.estimator.hear(model, verdict)
            self.take_over(model, "registered")

        return with_warm_up(await self.catalog.register(reading.model, then), self.pool.config)

    async def _refuse_unfit(self, model: Model, trusted: Mapping[str, Any] | None) -> None:
        self._refuse_virtual_names(model)
        self._refuse_fallbacks(model)
        refuse(provider_problems(model, self.catalog.by_id))
        refuse(await self.source_problems(model))
        refuse([*await self.untrusted(model), *await self.file_problems(model, trusted)])

    def _refuse_virtual_names(self, model: Model) -> None:
        """It would be asked in the virtual model's place. Patterns yield to models."""
        for name in model.names:
            if name in self.virtual_models:
                text = f"{name!r} is a virtual model: delete it first (/virtual-models/{name})"
                raise Conflict(text, param="model_id", code="name_taken")

    def is_name(self, name: str) -> bool:
        """Somebody is called so: a model or a virtual one."""
        return self.catalog.find(name) is not None or self.virtual_models.find(name) is not None

    def _refuse_fallbacks(self, model: Model) -> None:
        """Nobody is called so, or it would lead back to the model."""
        for name in model.fallbacks:
            if not self.is_name(name):
                text = f"fallbacks names {name!r}, which is neither a model nor a virtual one"
                raise InvalidRequest(text, param="fallbacks")
            if self.catalog.find(name) is None:
                way = way_to(model.names, name, self.virtual_models.find)
                if way:
                    text = f"{model.model_id} would follow itself: {' → '.join(way)}"
                    raise Conflict(text, param="fallbacks", code="circle")

    async def copy(self, name: str, model_id: str) -> Model:
        """Register a model once more, under another id and without its aliases; the files are the
        same ones.

        Raises:
            ModelNotFound: there is none of that name.
            NotSupported: some of it came from the environment, and must not be shown.
            ModelPoolError: the id cannot be had; nothing was changed.
        """
        model = self.catalog.get(name)
        entry = model.as_entry()
        if model.shown_entry() != entry:
            text = f"{model.model_id} holds values from the environment, which are not copied"
            raise NotSupported(f"{text}; write the entry of {model_id!r} in the config file")
        kept = {key: value for key, value in entry.items() if key not in ("aliases", "warmup")}
        return await self.register({**kept, "model_id": model_id}, model.options)

    async def source_problems(self, model: Model) -> list[Problem]:
        """See ``source_files``. What one model has may be another's, too: it was looked at."""
        source = model.source
        if model.served_by:
            return []
        if not os.path.isabs(source):
            return relative_problems(model.engine, source)
        if any(source == known.source or source in known.places for known in self.catalog):
            return []
        return await self.named_file_problems(source)

    async def named_file_problems(self, path: str) -> list[Problem]:
        """Why a client may not name that path as a model, ``~`` being the pool's own; what the API
        has set of the configuration does not count."""
        return await asyncio.to_thread(source_problems, path, self.configured.readable_folders)

    async def file_problems(
        self, model: Model, trusted: Mapping[str, Any] | None = None
    ) -> list[Problem]:
        """See ``option_files``; what the API has set of the configuration does not count."""
        folders = self.configured.readable_folders
        return await asyncio.to_thread(file_problems, model, folders, trusted)

    async def rollback(self, name: str, number: int) -> Model:
        """Let a model's entry say again what it said before; its options count from the next load
        on. What it says now becomes a version, too.

        Raises:
            NotFound: there is no such model or version.
            NotSupported: some of it came from the environment, which is not kept.
            ModelPoolError: it could not be registered so any more; nothing was changed.
        """
        old = self.catalog.get(name)
        version = await self.catalog.versions.get(old.model_id, number)
        if not version.is_whole or old.templates:
            text = f"{old.model_id} has values from the environment, which no version keeps"
            raise NotSupported(f"{text}; change it in the config file")
        parsed = parse_model(
            version.entry,
            known_engines=await self.engines.names(),
            ttl_range=self.pool.config.ttl_range,
        )
        await self._refuse_unfit(parsed, old.options)  # what was let in once may not be any more
        reading = await self.estimator.read(parsed)
        verdict = await self.engines.check(reading.model)

        def then(model: Model) -> None:
            self.estimator.take(reading)
            self.estimator.hear(model, verdict)
            self.take_over(model, f"rolled back to version {number}")

        model = reading.model.of_same_origin(old)
        return with_warm_up(await self.catalog.replace(model, old, then), self.pool.config)

    async def delete(self, name: str) -> Model:
        """Remove a model from the catalog; its worker ends its current work first. One that was
        found on the disk stays away until somebody asks for it. With a provider go the models that
        it serves.

        Raises:
            ModelNotFound: there is none.
        """
        for one in served(self.catalog.get(name), self.catalog):
            with contextlib.suppress(ModelNotFound):  # somebody was faster
                await self.delete(one.model_id)
        model = await self.catalog.delete(name, lambda model: self.see_off(model, "deleted"))
        if model.origin == ORIGIN and not model.served_by:  # what is listed elsewhere is no file
            await self.discovery.deleted(model)
        await self.are_gone((model.model_id,))
        return model

    async def switch(self, name: str, reason: str) -> Model:
        """Load a model, then let the alias ``current`` stand for it: no request waits for a load
        because of that.

        Raises:
            ModelPoolError: why it cannot be loaded; ``current`` is then what it was.
        """
        model = self.catalog.get(name)
        await self.files.check(model.model_id)
        await self.pool.load(model.model_id, reason, self.pool.config.load_wait_seconds)
        before, model = await self.catalog.switch(model.model_id)
        self.events.publish(
            "model-switched",
            model_id=model.model_id,
            previousModel=key_of(before) if before is not None else None,
            currentModel=key_of(model),
            reason=reason,
        )
        return model

    async def adopt_virtual_models(self, config: PoolConfig, reason: str) -> None:
        """Bring in the config file's virtual models and presets; what is wrong with one is told,
        and it stays as it was."""
        self.virtual_models.configured_presets = config.presets
        self.virtual_models.set_built_in(AUTO, {"kind": "auto", **config.routing})
        said = config.named_virtual_models
        shadowed = [
            f"virtual model {name} is never asked: a model is called so, too"
            for name in said
            if name in self.catalog
        ]
        problems = await self.virtual_models.adopt_config(said, reason)
        left = [
            f"fallbacks of {model.model_id} name {name}, and nobody is called so"
            for model in self.catalog
            for name in model.fallbacks
            if not self.is_name(name)
        ]
        self.warn_of_config([*shadowed, *problems, *left])

    def tell_virtual(self, change: Change) -> None:
        """Publish that a virtual model was made, changed or deleted."""
        model = change.model
        self.events.publish(
            "virtual-model-deleted" if model is None else "virtual-model-changed",
            virtual_model=change.name,
            version=change.version,
            kind=model.kind if model is not None else None,
            targets=list(model.targets) if model is not None else [],
            reason=change.reason,
        )

    def _warn_of_pointers(self, model: Model) -> None:
        """A model is gone: tell of the virtual models that name it."""
        names = [name for name in model.names if name not in self.catalog]
        for each in self.virtual_models.pointing_at(names):
            missing = self.virtual_models.missing(each)
            left = ", ".join(t for t in each.targets if t not in missing)
            text = f"{each.name} names {model.model_id}, which was deleted"
            self.events.publish(
                "virtual-model-warning",
                virtual_model=each.name,
                model_id=model.model_id,
                reason=f"{text}; {f'left are {left}' if left else 'nobody is left'}",
            )

    async def save_state(self) -> Path:
        """Write down all that is only in memory yet; the database's path.

        Raises:
            StoreError: it cannot be written; that is an event, too.
        """
        path = self.store.path
        try:
            await self.usage.save(self.store)
            await self.usage_hours.save(self.store)
            await self.peaks.save(self.store)
            await self.preloads.save()
            await self.history.flush()
            await self.store.checkpoint()
        except StoreError as e:
            self.events.publish("state-save-error", path=str(path), reason=str(e))
            raise
        self.events.publish("state-saved", path=str(path), reason="POST /save-state")
        return path

    def see_off(self, model: Model, reason: str) -> None:
        """The catalog has it no more: its worker ends its current work, then nothing names it."""
        task = asyncio.ensure_future(self._remove(model, reason))
        self.leaving[model.model_id] = task
        task.add_done_callback(lambda _: self.leaving.pop(model.model_id))

    async def are_gone(self, model_ids: Iterable[str]) -> None:
        """Wait for those of them that leave; they do so whoever waits."""
        tasks = [self.leaving[i] for i in model_ids if i in self.leaving]
        await asyncio.gather(*map(asyncio.shield, tasks))

    async def _remove(self, model: Model, reason: str) -> None:
        await self.pool.remove(model.model_id)
        self.files.forget(model.model_id)
        await self._forget_probes(model.model_id)
        try:
            await self.measurements.forget(model.model_id)
        except StoreError as e:
            log.warning("what was measured of %s is still there: %s", model.model_id, e)
        await self.forget(model)
        self.tell("model-deleted", model, reason)
        self._warn_of_pointers(model)

    async def forget(self, model: Model) -> None:
        """The pool has it no more: nothing is to name it."""
        self.estimator.forget(model)
        self.metrics.forget(model.model_id)
        self.breakers.forget(model.model_id)
        with contextlib.suppress(StoreError):  # a model of that name has them until then
            await self.outcomes.forget(model.model_id)
        self.usage.forget(model.model_id)
        with contextlib.suppress(StoreError):  # another model of that name has them then
            await self.catalog.versions.forget(model.model_id)
        await self.history.forget(model.model_id)
        root = self.pool.config.prompt_cache_root
        await asyncio.to_thread(prompt_caches.remove, root, model.model_id)

    async def _forget_probes(self, model_id: str) -> None:
        try:
            await self.capabilities.forget(model_id)
        except StoreError as e:
            log.warning("%s: what probes found of it is not forgotten: %s", model_id, e)

    async def import_registry(self, data: object, *, replace: bool) -> ImportReport:
        """Add the models of a registry file, all or none; running ones keep what they run with
        until they are loaded again.

        Raises:
            InvalidRequest: with everything that is wrong.
        """
        rules = ParseRules(None, await self.engines.names(), self.pool.config.ttl_range)
        rules = await self._with_verdicts(data, rules)

        def then(report: ImportReport) -> None:
            for model_id in (*report.added, *report.updated):
                self.take_over(self.catalog.get(model_id), "imported")

        report = await self.catalog.import_registry(data, replace, rules, then)
        for model_id in (*report.added, *report.updated):
            await self.describe(model_id)
        return report

    async def _with_verdicts(self, data: object, rules: ParseRules) -> ParseRules:
        """The rules for a registry file, with what the engines say of its entries."""
        existing = self.catalog.by_id
        sound = sound_models(data, existing, rules)
        beside = {model.model_id: model for model in sound.values()}
        verdicts = await self.engines.verdicts(list(sound.values())) if sound else []
        refused = {  # the rules know which engines may be missing
            i: [
                *provider_problems(model, existing, beside),
                *await self.source_problems(model),
                *await self.untrusted(model),
                *(p for p in verdict.problems if p.param != "engine"),
            ]
            for (i, model), verdict in zip(sound.items(), verdicts, strict=True)
        }
        for i, model in sound.items():
            known = existing.get(model.model_id)
            refused[i] += await self.file_problems(model, known.options if known else None)
        return dataclasses.replace(rules, refused=refused)

    async def untrusted(self, model: Model) -> list[Problem]:
        """What of a model only the config file may say, and a client of the API has said."""
        if self.pool.config.allow_commands_by_api:
            return []
        about = await self.engines.about(model.engine)
        return only_in_config.untrusted(
            model,
            about.get("options") or {},
            self.catalog,
            is_billed=bool(about.get("asked_once")),
        )

    async def problems(self, model: Model) -> tuple[Problem, ...]:
        """What its engine has against the model; what the source is, is not looked at."""
        reading = self.estimator.reading(model)
        return await self.engines.problems(model, reading.files.digest if reading else "")

    async def warn_of_engines(self, models: Sequence[Model]) -> None:
        """Tell what engines have against models of an earlier start: they may be others now."""
        for model, verdict in zip(models, await self.engines.verdicts(models), strict=True):
            for text in (*(p.message for p in verdict.problems), *verdict.notes):
                self.warn(model, text)

    async def ask_for_memory(self, models: Iterable[Model]) -> list[Model]:
        """Ask engines how much their models will need, where they know more than the files do.
        Those that they told of."""
        asked = [model for model in models if self.estimator.wants_to_be_told(model)]
        if asked:
            await self.engines.all()
        asked = [model for model in asked if not self.engines.problem(model)]
        told = []
        for model, verdict in zip(asked, await self.engines.inspected(asked), strict=True):
            if self.catalog.find(model.model_id) is model:
                self.estimator.hear(model, verdict)
                told += [model] if verdict.memory_bytes else []
        return told

    async def describe(self, model_id: str) -> None:
        """Add what its file says to an entry that stands; without that it is as good as one whose
        file cannot be read."""
        model = self.catalog.find(model_id)
        if model is None:
            return
        await self._describe(model, await described_if_possible(model, self.estimator, self.warn))

    async def judge(self, model: Model) -> None:
        """What it can do by what is known of it now; no file is read for that."""
        reading = self.estimator.reading(model)
        if reading is not None:
            files = reading.files.digest
            await self._describe(model, await self.capabilities.judged(model, reading.info, files))

    async def _describe(self, model: Model, described: Model) -> None:
        if described.same_content(model):
            return
        try:
            await self.catalog.replace(described, model, partial(put_in_pool, self.pool))
        except ModelNotFound:
            log.info("%s was deleted or replaced before that was known of it", model.model_id)
        except StoreError as e:
            log.warning("%s: what is known of it was not written down: %s", model.model_id, e)

    def _refuse_if_leaving(self, model_ids: Iterable[str]) -> None:
        """An id is free again when the worker of the deleted model is gone."""
        for model_id in model_ids:
            if model_id in self.leaving:
                raise Conflict(
                    f"{model_id} is being deleted: its worker ends its current work;"
                    " try again in a moment",
                    param="model_id",
                    code="being_deleted",
                    retry_after=1,
                )

    def take_over(self, model: Model, reason: str) -> None:
        """An entry of the catalog is new or another: its options count from the next load on."""
        is_new = not self.pool.has(model.model_id)
        before = None if is_new else self.pool.status(model.model_id).model
        put_in_pool(self.pool, model)
        if (
            before is not None
            and is_provider(model)
            and not (is_provider(before) and only_models_differ(before.options, model.options))
        ):  # else its worker is told which models are new
            self.pool.unload_if_unused(model.model_id, self.pool.clock.now(), reason)
        self.tell("model-registered" if is_new else "model-updated", model, reason)
        self.warn_if_it_never_fits(model)

    async def reconfigure(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Change live keys; what changed is returned. A reload that is under way comes first, for
        it has read what is in force.

        Raises:
            InvalidRequest: a key is unknown, needs a restart, or has a bad value.
        """
        async with self.reloading:
            old = self.pool.config
            new = patched(old, changes)
            refuse_new_secrets(new, (old, self.configured))
            changed = changes_between(old, new, LIVE_KEYS)
            self.prepared(new)()
        if changed:
            await self.end_unwanted()
            self.events.publish("config-changed", changed=changed, reason="PATCH /config")
        return changed

    def prepared(self, config: PoolConfig) -> Callable[[], None]:
        """What puts it in force; nothing goes wrong then that could be seen before.

        Raises:
            InvalidRequest: one of its registrars cannot be made.
        """
        try:
            entries = self.registrars.prepared(config.registrars)
        except BadRegistrar as e:
            raise InvalidRequest(e.message, param="registrars") from None

        def then() -> None:
            self.registrars.take(entries)
            self.pool.reconfigure(config)
            self.guard.allow(config.allowlist)

        return then

    async def end_unwanted(self) -> None:
        """End what the config, which is another than before, does not want any more."""
        config = self.pool.config
        allowed = 0.0 if config.request_log == "off" else 60 * config.capture_max_minutes
        if self.captures.seconds_left() > allowed:
            why = f"capture_max_minutes is {config.capture_max_minutes:g} now"
            await self.end_capture(why if config.request_log != "off" else "request_log is off now")
        await self.remove_unwanted_prompts()

    async def end_capture(self, reason: str) -> None:
        """Capture nothing any more, and forget what was captured."""
        await self.captures.stop(reason)
        self.requests.forget_contents()

    async def remove_unwanted_prompts(self) -> None:
        """Remove prompt caches of models that are no more; all, where none are to be kept."""
        config = self.pool.config
        wanted = [m.model_id for m in self.catalog] if config.prompt_cache_disk_mb else []
        await asyncio.to_thread(prompt_caches.keep_only, config.prompt_cache_root, wanted)

    def warn_if_it_never_fits(self, model: Model) -> None:
        """The limit may be another than when it was registered."""
        plan = self.pool.plan(model.model_id) if self.pool.has(model.model_id) else None
        if isinstance(plan, Refuse) and not plan.is_passing:
            self.warn(model, f"it does not fit into this pool: {plan.text}")

    def warn_of_config(self, warnings: Iterable[str]) -> None:
        """Tell what was understood in the configuration but deserves a word."""
        for text in warnings:
            log.warning("%s", text)
            self.events.publish("config-warning", reason=text)

    def warn(self, model: Model, text: str) -> None:
        """Something will keep the model from being loaded, unless it is mended before."""
        log.warning("%s: %s", model.model_id, text)
        self.tell("model-warning", model, text)

    def chat_failed(self, model: Model, error: str) -> None:
        """A worker of the model has found that its chat template does not work."""
        self.warn(model, f"it cannot chat, {FAULT}: {error}")
        task = asyncio.ensure_future(self._learn_no_chat(model, f"{FAULT}: {error}"))
        self.learning.add(task)
        task.add_done_callback(self.learning.discard)

    async def _learn_no_chat(self, model: Model, error: str) -> None:
        key, _ = await self.estimator.look(model)
        version = (await self.capabilities.engine(model.engine)).version
        held_for = (model.model_id, key.fingerprint, key.options, version)
        refused = ProbeResult(*held_for, "chat", "refused", error, 0.0, time.time())
        try:
            await self.capabilities.record(model.model_id, [refused])
        except StoreError as e:
            log.warning("%s: that it cannot chat was not written down: %s", model.model_id, e)
        await self.describe(model.model_id)

    def tell(self, event: str, model: Model, reason: str, **data: Any) -> None:
        """Publish an event about a model."""
        self.events.publish(
            event, model_id=model.model_id, key=key_of(model), reason=reason, **data
        )


def key_of(model: Model) -> str:
    """How the model manager of the second document calls it."""
    return f"{model.engine}:{model.model_id}"


def put_in_pool(pool: Pool, model: Model) -> None:
    """A new model, or another entry for one of the pool's."""
    model = with_warm_up(model, pool.config)
    if pool.has(model.model_id):
        pool.replace_model(model)
    else:
        pool.add(model)


def with_warm_up(model: Model, config: PoolConfig) -> Model:
    """The catalog's model as the pool runs it: ``warmup_models`` may name it, too. The catalog
    keeps what was declared, or a name taken out of the config would stay in force."""
    if not config.warmup_models:
        return model
    is_named = any(answers_to(model.names, name) for name in config.warmup_models)
    return dataclasses.replace(model, warmup=True) if is_named and not model.warmup else model
