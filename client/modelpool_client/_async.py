"""``AsyncPoolClient``: the pool's calls, awaited (asyncio). Twin of ``_sync``, described there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack

import httpx

from modelpool_client import _calls as calls
from modelpool_client import reports, types
from modelpool_client._async_transport import AsyncTransport
from modelpool_client._connection import (
    ONCE,
    RetryPolicy,
    connection_lost,
    openai_sdk,
    silent,
    worker_url,
)
from modelpool_client._stream import ChunkReader, EventParser, LogReader, event_of
from modelpool_client._sync import WATCH_SECONDS, Messages, OnProgress
from modelpool_client.errors import ModelPoolError

if TYPE_CHECKING:
    import openai

T = TypeVar("T")


class AsyncPoolClient:
    """A model pool, seen from an asyncio program: ``PoolClient``, awaited."""

    def __init__(
        self,
        base_url: str | None = None,
        *,
        timeout: float = 10.0,
        retry: RetryPolicy | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._transport = AsyncTransport(
            base_url, timeout=timeout, retry=retry, transport=transport, clock=clock, sleep=sleep
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.base_url}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    @property
    def base_url(self) -> str:
        """Where the pool is."""
        return self._transport.base_url

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()

    async def fetch(self, call: calls.Call[Any], retry: RetryPolicy | None = None) -> Any:
        """The document that answers a call, as it came."""
        return await self._transport.fetch(call, retry)

    # -- the pool --------------------------------------------------------------------------------

    async def health(self) -> types.PoolHealth:
        """The pool in a few figures."""
        return await self._transport.do(calls.health())

    async def engines(self, *, all_: bool = False, refresh: bool = False) -> list[types.EngineView]:
        """The engines, and for those that are not usable on its machine the reason.

        Args:
            all_: those that are for tests and trials, too.
            refresh: look again; else the pool tells what it remembers.
        """
        return await self._transport.do(calls.engines(all_, refresh))

    async def devices(self) -> list[types.DeviceView]:
        """The GPUs of its machine, with what is free of each now."""
        return await self._transport.do(calls.devices())

    async def statistics(self) -> dict[str, Any]:
        """Use, latencies (ms) and rates, for the pool and per model."""
        return await self._transport.do(calls.statistics())

    async def metrics(self) -> str:
        """The pool's metrics in Prometheus' text format."""
        return await self._transport.do(calls.metrics())

    async def config(self) -> dict[str, Any]:
        """The configuration in force."""
        return await self._transport.do(calls.config())

    async def config_sources(self) -> dict[str, reports.KeySource]:
        """Where the value of each key of the configuration comes from."""
        return await self._transport.do(calls.config_sources())

    async def config_file(self) -> dict[str, Any]:
        """A config file that makes a pool like this one, its models included."""
        return await self._transport.do(calls.config_file())

    async def configure(self, **changes: Any) -> types.ConfigChange:
        """Change configuration keys of the running pool; running models are not touched."""
        return await self._transport.do(calls.configure(changes))

    async def reload_config(self) -> reports.ConfigReload:
        """Have the pool read its config file again; the answer says what changed."""
        return await self._transport.do(calls.reload_config())

    async def restart(self, wait_seconds: float | None = None) -> reports.Restarted:
        """Replace the manager by a fresh one that adopts the workers; returns when it answers."""
        began = self._transport.clock()
        begun = await self._transport.do(calls.restart(wait_seconds))
        limit = self._transport.clock() + begun.wait_seconds + calls.RESTART_EXTRA_SECONDS
        while not (run := await self._run_after(begun.run, limit)):
            await self._transport.sleep(WATCH_SECONDS / 5)
        models = await self.awake_models()
        return reports.compared(begun, run, models, self._transport.clock() - began)

    async def _run_after(self, run: str, limit: float) -> str:
        """The manager's run if it is another by now, else nothing, until the time is over."""
        error: ModelPoolError = silent(self.base_url, "the old manager is still there")
        try:
            health = await self._transport.do(calls.health(), ONCE)
            if health.run != run:
                return health.run
        except ModelPoolError as e:
            error = e
        if self._transport.clock() > limit:
            raise error
        return ""

    async def registry(self) -> dict[str, Any]:
        """The catalog as a registry document: ``{"models": […]}``."""
        return await self._transport.do(calls.registry())

    async def import_registry(
        self, models: Mapping[str, Any] | Sequence[Mapping[str, Any]], replace: bool = False
    ) -> types.RegistryChange:
        """Take over a registry document; ``replace``: also over models that differ."""
        return await self._transport.do(calls.import_registry(models, replace))

    async def events(
        self, model: str | None = None, last_event_id: str | None = None
    ) -> AsyncIterator[types.Event]:
        """What happens, as it happens, without end; resumes by itself after a broken connection."""
        attempts, last_id = self._transport.attempts(), last_event_id or ""
        while True:
            parser, is_alive = EventParser(last_id), False
            try:
                async with self._transport.stream(calls.events(model, last_id), ONCE) as response:
                    async for chunk in response.aiter_bytes():
                        is_alive = True
                        for sse in parser.feed(chunk):
                            yield event_of(sse)
                error: ModelPoolError = connection_lost(self.base_url, "the events ended")
            except ModelPoolError as e:
                error = e
            attempts = self._transport.attempts() if is_alive else attempts
            last_id = parser.last_id
            await self._transport.sleep(attempts.delay_after(error))

    # -- models ----------------------------------------------------------------------------------

    async def models(self) -> list[types.ModelView]:
        """All models of the catalog."""
        found: list[types.ModelView] = []
        offset: int | None = 0
        while offset is not None:
            page, offset = await self._transport.do(calls.models_from(offset))
            found += page
        return found

    async def awake_models(self) -> list[types.ModelView]:
        """Those that are loaded, loading, waited for or have failed; the first thousand."""
        return await self._transport.do(calls.awake_models())

    async def model(self, model_id: str) -> types.ModelView:
        """One model. Raises ``ModelNotFound``, naming similar ones."""
        return await self._transport.do(calls.model(model_id))

    async def register(
        self, model_id: str, *, source: str, **fields: Unpack[types.ModelFields]
    ) -> types.ModelView:
        """Add a model to the catalog; it is not loaded. Raises ``ModelExists``."""
        return await self._transport.do(
            calls.register({"model_id": model_id, "source": source, **fields})
        )

    async def delete(self, model_id: str) -> str:
        """Take a model out of the catalog, unloading it first. Returns its id."""
        return await self._transport.do(calls.delete(model_id))

    async def load(
        self, model_id: str, wait: bool | float = True, on_progress: OnProgress | None = None
    ) -> types.ModelView:
        """Load a model and wait until it answers."""
        call = calls.load(model_id, wait)
        if on_progress is None or not call.params:
            return await self._transport.do(call)
        view = await self._watch(call, [model_id], on_progress)
        on_progress(view)
        return view

    async def load_set(
        self,
        model_ids: Sequence[str],
        wait: bool | float = True,
        on_progress: OnProgress | None = None,
    ) -> reports.SetLoaded:
        """Load several models as one, so that none makes room for another; see ``load``. The answer
        says of each what became of it: that one could not be loaded raises nothing.

        Raises:
            CannotFit, NoMemoryFree, NoPortFree: they cannot be there together; nothing was begun.
        """
        call = calls.load_set(model_ids, wait)
        if on_progress is None or not call.params:
            return await self._transport.do(call)
        loaded = await self._watch(call, model_ids, on_progress)
        for each in loaded.models:
            on_progress(each.model)
        return loaded

    async def unload(
        self, model_id: str, force: bool = False, wait: bool = True
    ) -> types.ModelView:
        """Unload a model, letting its work end; ``force`` cuts it, and unloads protected models."""
        return await self._transport.do(calls.unload(model_id, force, wait))

    async def extend(self, model_id: str, minutes: float) -> types.Extension:
        """Extend the lease; the answer says how much was granted."""
        return await self._transport.do(calls.extend(model_id, minutes))

    async def endpoint(self, model_id: str, wait: bool | float = True) -> types.Endpoint:
        """Where a model answers, loading it if need be; ``wait`` as for ``load``, 0: do not."""
        return await self._transport.do(calls.endpoint(model_id, wait))

    async def capabilities(self, model_id: str) -> reports.CapabilityReport:
        """What the model can do and what it cannot, with who says so and why. To have it asked:
        ``create_job("probe", model=model_id)``."""
        return await self._transport.do(calls.capabilities(model_id))

    async def find_best(self, **wanted: Unpack[types.Wanted]) -> reports.Findings:
        """Which model suits a purpose best, and why: see ``types.Wanted`` for the conditions."""
        return await self._transport.do(calls.find_best(wanted))

    async def versions(self, model_id: str) -> list[reports.Version]:
        """What the model's entry said before each of its last changes, newest first."""
        return await self._transport.do(calls.versions(model_id))

    async def rollback(self, model_id: str, version: int) -> types.ModelView:
        """Let the model's entry say again what it said; it counts from the next load on."""
        return await self._transport.do(calls.rollback(model_id, version))

    async def route(self, request: Mapping[str, Any]) -> reports.Route:
        """Which models would be asked for a request, in which order and why; nothing is asked. It
        is a chat request, or any other with its ``path``; without ``model`` it is for ``auto``."""
        return await self._transport.do(calls.route(request))

    async def routes(self, requests: Sequence[Mapping[str, Any]]) -> list[reports.Route]:
        """The same for several; one that cannot be answered has an ``error``."""
        return await self._transport.do(calls.routes(requests))

    async def report_outcome(
        self, decision_id: str, *, score: float | None = None, success: bool | None = None
    ) -> reports.Taught:
        """Say how good an answer was that ``auto`` chose a model for, once: ``score`` from 0 to 1,
        or ``success``. The answer's header ``x-modelpool-decision-id`` names the decision.

        Raises:
            NotFound: of that decision nothing is known any more.
            Conflict: it was told before, or outcomes do not count in this pool.
        """
        return await self._transport.do(calls.report_outcome(decision_id, score, success))

    async def outcomes(self) -> reports.OutcomeReport:
        """What outcomes have taught of models at kinds of work."""
        return await self._transport.do(calls.outcomes())

    async def forget_outcomes(self, model: str | None = None) -> int:
        """Forget what they have taught, of a model or of all; how much that was."""
        return await self._transport.do(calls.forget_outcomes(model))

    async def breakers(self) -> list[reports.Breaker]:
        """Those of workers and servers elsewhere that something failed at lately."""
        return await self._transport.do(calls.breakers())

    async def reset_breaker(self, breaker: str) -> list[reports.Breaker]:
        """Close one: whoever is behind it is asked again."""
        return await self._transport.do(calls.reset_breaker(breaker))

    async def alerts(self) -> reports.AlertReport:
        """What fires, is pending or was resolved lately; silences, rules and targets."""
        return await self._transport.do(calls.alerts())

    async def silence_alerts(
        self,
        matchers: Mapping[str, str],
        minutes: float | None = None,
        *,
        ends_at: str | None = None,
        comment: str = "",
    ) -> reports.SilenceView:
        """Have nobody told of alerts whose ``alertname``, ``model``, ``severity`` and
        ``currency`` fit all these patterns, for so many minutes or until a time."""
        return await self._transport.do(calls.silence_alerts(matchers, minutes, ends_at, comment))

    async def end_silence(self, silence_id: str) -> reports.SilenceView:
        """Tell of them again."""
        return await self._transport.do(calls.end_silence(silence_id))

    async def try_alert_targets(self, target: str | None = None) -> dict[str, str]:
        """Send a test message to a target, or to all; what went wrong by name, empty: it
        arrived."""
        return await self._transport.do(calls.try_alert_targets(target))

    async def virtual_models(self) -> list[reports.VirtualModel]:
        """Names that are no models, and what each stands for."""
        return await self._transport.do(calls.virtual_models())

    async def virtual_model(self, name: str) -> reports.VirtualModel:
        """What a name stands for."""
        return await self._transport.do(calls.virtual_model(name))

    async def set_virtual_model(
        self, name: str, entry: Any, version: int | None = None
    ) -> reports.VirtualModelChange:
        """Let a name stand for something from now on: the name of a model, a list of names, names
        with their weights, or an entry with its ``kind``. With ``version`` only if it is at that
        one, 0 for a new name."""
        return await self._transport.do(calls.set_virtual_model(name, entry, version))

    async def delete_virtual_model(
        self, name: str, version: int | None = None
    ) -> reports.VirtualModelChange:
        """A name stands for nothing any more; ``rollback_virtual_model`` brings it back."""
        return await self._transport.do(calls.delete_virtual_model(name, version))

    async def virtual_model_versions(self, name: str) -> list[reports.VirtualModelVersion]:
        """What a name stood for before each of its last changes, newest first."""
        return await self._transport.do(calls.virtual_model_versions(name))

    async def rollback_virtual_model(
        self, name: str, version: int | None = None
    ) -> reports.VirtualModelChange:
        """Let a name stand for what it stood for in a former version, or before its last change."""
        return await self._transport.do(calls.rollback_virtual_model(name, version))

    async def presets(self) -> dict[str, Any]:
        """Named sets of parameters, by name."""
        return await self._transport.do(calls.presets())

    async def set_preset(self, name: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Make a preset, or put it in the place of the one of that name; all there are then."""
        return await self._transport.do(calls.set_preset(name, values))

    async def delete_preset(self, name: str) -> dict[str, Any]:
        """Remove a preset that was made at run time; all that are left."""
        return await self._transport.do(calls.delete_preset(name))

    async def class_file(self, kind: str, name: str | None = None) -> dict[str, Any]:
        """A ``model-preferences`` or ``advanced-model-settings`` file, of the virtual model
        ``preferred`` or another."""
        return await self._transport.do(calls.class_file(kind, name))

    async def set_class_file(
        self, kind: str, data: Any, name: str | None = None
    ) -> reports.VirtualModelChange:
        """Take over such a file."""
        return await self._transport.do(calls.set_class_file(kind, data, name))

    async def plan(self, model_id: str) -> reports.LoadPlan:
        """What loading the model would do right now; nothing is changed."""
        return await self._transport.do(calls.plan(model_id))

    async def plan_set(self, model_ids: Sequence[str]) -> reports.SetPlan:
        """What ``load_set`` would do right now; nothing is changed."""
        return await self._transport.do(calls.plan_set(model_ids))

    async def history(
        self, model_id: str, limit: int = 50, before: int | None = None
    ) -> reports.History:
        """What happened to the model, newest first, also before the pool's last restarts."""
        return await self._transport.do(calls.history(model_id, limit, before))

    async def requests(self, **conditions: Any) -> reports.RequestPage:
        """The last requests that are over, newest first, that fit ``model``, ``status`` (as ``404``
        or ``4xx``), ``surface``, ``since``, ``errors``; ``limit`` and ``before`` page."""
        return await self._transport.do(calls.requests(conditions))

    async def request(self, number: int) -> reports.RequestDetails:
        """One request of the log, with what was said in it where that was captured."""
        return await self._transport.do(calls.request(number))

    async def capture(self) -> reports.CaptureView:
        """Whether what is said in requests is captured."""
        return await self._transport.do(calls.capture())

    async def start_capture(
        self,
        minutes: float = 10.0,
        models: Sequence[str] | None = None,
        max_body_bytes: int | None = None,
    ) -> reports.CaptureView:
        """Keep what is said in requests, of all models or of some, in the pool's memory; it ends by
        itself. What looks like a key is left out."""
        return await self._transport.do(calls.start_capture(minutes, models, max_body_bytes))

    async def stop_capture(self) -> reports.CaptureView:
        """Capture nothing any more, and forget what was."""
        return await self._transport.do(calls.stop_capture())

    async def usage(
        self,
        by: str = "model,day",
        since: str | None = None,
        until: str | None = None,
        model: str | None = None,
    ) -> reports.UsageReport:
        """Requests, tokens, time and cost, by any of model, day and hour in UTC; times as ISO 8601
        or seconds since 1970, the hour that they lie in included."""
        return await self._transport.do(calls.usage(by, since, until, model))

    async def usage_csv(
        self,
        by: str = "model,day",
        since: str | None = None,
        until: str | None = None,
        model: str | None = None,
    ) -> str:
        """The rows of ``usage`` as CSV, with a head."""
        return await self._transport.do(calls.usage_csv(by, since, until, model))

    async def model_health(self, model_id: str) -> dict[str, Any]:
        """The health of a model's worker, or why there is none: see ``status`` in it."""
        return await self._transport.do(calls.model_health(model_id))

    async def logs(
        self, model_id: str, lines: int = 100, follow: bool = False
    ) -> AsyncIterator[str]:
        """The last lines of a worker's log; with ``follow`` also those to come, without end:
        after a restart of the pool it goes on where it was."""
        attempts, reader = self._transport.attempts(), LogReader(follow)
        while True:
            call = calls.logs(model_id, lines, follow, reader.offset)
            try:
                async with self._transport.stream(call, ONCE) as response:
                    attempts = self._transport.attempts()
                    reader.begin(response.headers)
                    async for chunk in response.aiter_bytes():
                        for line in reader.feed(chunk):
                            yield line
                if not follow:
                    for line in reader.rest():
                        yield line
                    return
                error: ModelPoolError = connection_lost(self.base_url, "the log ended")
            except ModelPoolError as e:
                error = e
            if not reader.can_resume:
                raise error
            await self._transport.sleep(attempts.delay_after(error))

    # -- jobs -----------------------------------------------------------------------------------

    async def jobs(
        self, kind: str | None = None, state: str | None = None
    ) -> list[reports.JobView]:
        """What takes longer than a request: all that are not over, and the last that are."""
        return await self._transport.do(calls.jobs(kind, state))

    async def job(self, job_id: str, wait: float = 0.0) -> reports.JobView:
        """One job; with ``wait`` once it rests or is over, or after that many seconds."""
        return await self._transport.do(calls.job(job_id, wait))

    async def create_job(self, kind: str, **data: Any) -> reports.JobView:
        """Begin a job, or find the one that does just that already; ``data`` is the kind's."""
        return await self._transport.do(calls.create_job(kind, data))

    async def change_job(self, job_id: str, action: str) -> reports.JobView:
        """Ask a job to ``cancel``, ``pause`` or ``resume``; the job as it then is."""
        return await self._transport.do(calls.change_job(job_id, action))

    async def remove_job(self, job_id: str) -> str:
        """Forget a job that is over."""
        return await self._transport.do(calls.remove_job(job_id))

    # -- discovery ------------------------------------------------------------------------------

    async def discover(
        self, *paths: str, source: str | None = None, restore: bool = False
    ) -> reports.JobView:
        """Have the pool look for models in folders, or in all that it knows: a job. ``restore``
        brings back models that were deleted."""
        return await self._transport.do(calls.discover(paths, source, restore))

    async def found(
        self, kind: str | None = None, limit: int = 100, offset: int = 0
    ) -> reports.Found:
        """What is on the disk: a page of all, or of one kind: ``model``, ``companion``,
        ``broken``, ``unsettled``, ``duplicate``."""
        return await self._transport.do(calls.found(kind, limit, offset))

    # -- pulls ----------------------------------------------------------------------------------

    async def pull(self, source: str, **data: Any) -> reports.JobView:
        """Begin to fetch a model: ``hf:owner/repo[:quantisation]``, ``ollama:name[:tag]``, a URL
        or a path; ``data`` may hold ``model_id``, ``aliases``, ``options``, ``digest`` …"""
        return await self._transport.do(calls.pull(source, data))

    async def disk(self) -> dict[str, Any]:
        """What the disk holds by model."""
        return await self._transport.do(calls.disk())

    async def prune(self, dry_run: bool = False) -> dict[str, Any]:
        """Remove pulled files that no model uses, and downloads that nobody goes on with."""
        return await self._transport.do(calls.prune(dry_run))

    # -- figures and options --------------------------------------------------------------------

    async def profile(self, model_id: str, **body: Any) -> reports.JobView:
        """Begin to measure how fast the model is; ``body`` may hold ``streams``, ``prompt_tokens``
        and others of ``POST /models/{id}/profile``."""
        return await self._transport.do(calls.profile(model_id, body))

    async def profiles(self, model_id: str) -> reports.Profiles:
        """What was measured of the model, newest first, and what changed since the time before."""
        return await self._transport.do(calls.profiles(model_id))

    async def tune(self, model_id: str, **body: Any) -> reports.JobView:
        """Begin to look for better load options; ``body`` may hold ``goal`` and others of
        ``POST /models/{id}/tune``."""
        return await self._transport.do(calls.tune(model_id, body))

    async def untune(self, model_id: str) -> dict[str, Any]:
        """Forget what was found by ``tune``."""
        return await self._transport.do(calls.untune(model_id))

    async def options(
        self, model_id: str, changes: Mapping[str, Any] | None = None
    ) -> reports.ModelOptions:
        """The model's load options and where each comes from. ``changes`` are saved before, None
        removes one; they count from the next load on."""
        return await self._transport.do(calls.options(model_id, changes))

    # -- inference -------------------------------------------------------------------------------

    async def chat(self, model: str, messages: Messages, **params: Any) -> types.Reply:
        """The model's answer to messages, or to one text; ``params`` as in OpenAI's API."""
        return await self._transport.do(calls.chat(model, messages, False, params))

    async def chat_stream(
        self,
        model: str,
        messages: Messages,
        told: Callable[[Mapping[str, Any]], object] | None = None,
        **params: Any,
    ) -> AsyncIterator[str]:
        """The same, piece by piece. Raises ``WorkerFailed`` if the answer is cut off. ``told``
        hears of ``usage`` (with ``stream_options``) and ``timings``, where the model tells them."""
        parser, reader = EventParser(), ChunkReader()
        async with self._transport.stream(calls.chat(model, messages, True, params)) as response:
            async for chunk in response.aiter_bytes():
                for sse in parser.feed(chunk):
                    if text := reader.text(sse.data):
                        yield text
        reader.finish()
        if told is not None:
            told(reader.figures)

    async def generate(self, model: str, prompt: str, **params: Any) -> types.Reply:
        """The model's continuation of a prompt; ``params`` as in OpenAI's completions API."""
        return await self._transport.do(calls.generate(model, prompt, params))

    async def embed(
        self, model: str, texts: Sequence[str], dimensions: int | None = None
    ) -> dict[str, Any]:
        """A vector a text, as OpenAI's embeddings API answers."""
        return await self._transport.do(calls.embed(model, texts, dimensions))

    async def rerank(
        self, model: str, query: str, documents: Sequence[str], top_n: int | None = None
    ) -> dict[str, Any]:
        """Documents by how well they answer a query, as Jina's and Cohere's APIs answer."""
        return await self._transport.do(calls.rerank(model, query, documents, top_n))

    async def transcribe(
        self, model: str, audio: bytes, file_name: str = "audio.wav", **params: str
    ) -> dict[str, Any]:
        """The text of recorded speech; ``params`` as in OpenAI's transcriptions API."""
        return await self._transport.do(calls.transcribe(model, audio, file_name, params))

    async def openai_models(self) -> list[dict[str, Any]]:
        """The models in OpenAI's form."""
        return await self._transport.do(calls.openai_models())

    async def openai(self, model: str | None = None) -> openai.AsyncOpenAI:
        """An OpenAI client for the pool, or for a model's own worker, which is loaded first."""
        sdk = openai_sdk()
        url = worker_url(await self.endpoint(model)) if model else f"{self.base_url}/v1"
        http = sdk.DefaultAsyncHttpxClient(trust_env=self._transport.trust_env)
        client: openai.AsyncOpenAI = sdk.AsyncOpenAI(
            base_url=url, api_key="modelpool", http_client=http
        )
        return client

    async def _watch(
        self, call: calls.Call[T], model_ids: Sequence[str], on_progress: OnProgress
    ) -> T:
        """Wait for a load in a task of its own, looking at the models meanwhile."""
        load = asyncio.ensure_future(self._transport.do(call))
        try:
            while not (await asyncio.wait([load], timeout=WATCH_SECONDS))[0]:
                for model_id in model_ids:
                    if view := await self._peek(model_id):
                        on_progress(view)
            return load.result()
        finally:
            load.cancel()
            await asyncio.wait([load])

    async def _peek(self, model_id: str) -> types.ModelView | None:
        try:
            return await self._transport.do(calls.model(model_id), ONCE)
        except ModelPoolError:
            return None
