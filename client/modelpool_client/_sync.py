"""``PoolClient``: the pool's calls, blocking. ``_async`` is its twin; a test compares the two."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack

import httpx

from modelpool_client import _calls as calls
from modelpool_client import reports, types
from modelpool_client._connection import (
    ONCE,
    RetryPolicy,
    connection_lost,
    openai_sdk,
    silent,
    worker_url,
)
from modelpool_client._stream import ChunkReader, EventParser, LogReader, event_of
from modelpool_client._sync_transport import Transport
from modelpool_client.errors import ModelPoolError

if TYPE_CHECKING:
    import openai

T = TypeVar("T")
Messages = str | Sequence[Mapping[str, Any]]
OnProgress = Callable[[types.ModelView], None]

WATCH_SECONDS = 0.25


class PoolClient:
    """A model pool, seen from a program. Threads may share one; close it, or use ``with``.

    ``base_url`` defaults to ``MODELPOOL_URL``, else the pool of this machine. ``timeout``
    (seconds) is for the pool's own answers: waiting for a load and for a model comes on top.
    ``retry`` says how long a restarting or busy pool is tried again. Every method raises a
    ``ModelPoolError``: ``PoolUnreachable`` when nobody answers, else what the pool said.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        timeout: float = 10.0,
        retry: RetryPolicy | None = None,
        transport: httpx.BaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._transport = Transport(
            base_url, timeout=timeout, retry=retry, transport=transport, clock=clock, sleep=sleep
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.base_url}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def base_url(self) -> str:
        """Where the pool is."""
        return self._transport.base_url

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def fetch(self, call: calls.Call[Any], retry: RetryPolicy | None = None) -> Any:
        """The document that answers a call, as it came."""
        return self._transport.fetch(call, retry)

    # -- the pool --------------------------------------------------------------------------------

    def health(self) -> types.PoolHealth:
        """The pool in a few figures."""
        return self._transport.do(calls.health())

    def engines(self) -> list[types.EngineView]:
        """The engines, and for those that are not usable on its machine the reason."""
        return self._transport.do(calls.engines())

    def statistics(self) -> dict[str, Any]:
        """Use, latencies (ms) and rates, for the pool and per model."""
        return self._transport.do(calls.statistics())

    def metrics(self) -> str:
        """The pool's metrics in Prometheus' text format."""
        return self._transport.do(calls.metrics())

    def config(self) -> dict[str, Any]:
        """The configuration in force."""
        return self._transport.do(calls.config())

    def config_file(self) -> dict[str, Any]:
        """A config file that makes a pool like this one, its models included."""
        return self._transport.do(calls.config_file())

    def configure(self, **changes: Any) -> types.ConfigChange:
        """Change configuration keys of the running pool; running models are not touched."""
        return self._transport.do(calls.configure(changes))

    def reload_config(self) -> reports.ConfigReload:
        """Have the pool read its config file again; the answer says what changed."""
        return self._transport.do(calls.reload_config())

    def restart(self, wait_seconds: float | None = None) -> reports.Restarted:
        """Replace the manager by a fresh one that adopts the workers; returns when it answers.

        ``wait_seconds``: how long requests through the gateway may take to end before they are
        cut; None is the pool's ``graceful_shutdown_seconds``. Those on worker ports go on.

        Raises:
            PoolUnreachable: no new manager answers, a minute after that.
        """
        began = self._transport.clock()
        begun = self._transport.do(calls.restart(wait_seconds))
        limit = self._transport.clock() + begun.wait_seconds + calls.RESTART_EXTRA_SECONDS
        while not (run := self._run_after(begun.run, limit)):
            self._transport.sleep(WATCH_SECONDS / 5)
        models = self._transport.do(calls.models())
        return reports.compared(begun, run, models, self._transport.clock() - began)

    def _run_after(self, run: str, limit: float) -> str:
        """The manager's run if it is another by now, else nothing, until the time is over."""
        error: ModelPoolError = silent(self.base_url, "the old manager is still there")
        try:
            health = self._transport.do(calls.health(), ONCE)
            if health.run != run:
                return health.run
        except ModelPoolError as e:
            error = e
        if self._transport.clock() > limit:
            raise error
        return ""

    def registry(self) -> dict[str, Any]:
        """The catalog as a registry document: ``{"models": […]}``."""
        return self._transport.do(calls.registry())

    def import_registry(
        self, models: Mapping[str, Any] | Sequence[Mapping[str, Any]], replace: bool = False
    ) -> types.RegistryChange:
        """Take over a registry document; ``replace``: also over models that differ."""
        return self._transport.do(calls.import_registry(models, replace))

    def events(
        self, model: str | None = None, last_event_id: str | None = None
    ) -> Iterator[types.Event]:
        """What happens, as it happens, without end; resumes by itself after a broken connection."""
        attempts, last_id = self._transport.attempts(), last_event_id or ""
        while True:
            parser, is_alive = EventParser(last_id), False
            try:
                with self._transport.stream(calls.events(model, last_id), ONCE) as response:
                    for chunk in response.iter_bytes():
                        is_alive = True
                        for sse in parser.feed(chunk):
                            yield event_of(sse)
                error: ModelPoolError = connection_lost(self.base_url, "the events ended")
            except ModelPoolError as e:
                error = e
            attempts = self._transport.attempts() if is_alive else attempts
            last_id = parser.last_id
            self._transport.sleep(attempts.delay_after(error))

    # -- models ----------------------------------------------------------------------------------

    def models(self) -> list[types.ModelView]:
        """All models of the catalog."""
        return self._transport.do(calls.models())

    def model(self, model_id: str) -> types.ModelView:
        """One model. Raises ``ModelNotFound``, naming similar ones."""
        return self._transport.do(calls.model(model_id))

    def register(
        self, model_id: str, *, source: str, **fields: Unpack[types.ModelFields]
    ) -> types.ModelView:
        """Add a model to the catalog; it is not loaded. Raises ``ModelExists``."""
        return self._transport.do(
            calls.register({"model_id": model_id, "source": source, **fields})
        )

    def delete(self, model_id: str) -> str:
        """Take a model out of the catalog, unloading it first. Returns its id."""
        return self._transport.do(calls.delete(model_id))

    def load(
        self, model_id: str, wait: bool | float = True, on_progress: OnProgress | None = None
    ) -> types.ModelView:
        """Load a model and wait until it answers.

        ``wait``: seconds, True for 300, False to return at once. ``on_progress`` gets the model
        about four times a second while it loads, and once when it is there.

        Raises:
            LoadFailed, LoadTimeout, CannotFit, NoMemoryFree, NoPortFree, PoolBusy: why not.
        """
        call = calls.load(model_id, wait)
        if on_progress is None or not call.params:
            return self._transport.do(call)
        return self._watch(call, model_id, on_progress)

    def unload(self, model_id: str, force: bool = False, wait: bool = True) -> types.ModelView:
        """Unload a model, letting its work end; ``force`` cuts it, and unloads protected models.

        Raises:
            UnloadProtected: a warm-up or pinned model, without ``force``.
        """
        return self._transport.do(calls.unload(model_id, force, wait))

    def extend(self, model_id: str, minutes: float) -> types.Extension:
        """Extend the lease; the answer says how much was granted."""
        return self._transport.do(calls.extend(model_id, minutes))

    def endpoint(self, model_id: str, wait: bool | float = True) -> types.Endpoint:
        """Where a model answers, loading it if need be; ``wait`` as for ``load``, 0: do not."""
        return self._transport.do(calls.endpoint(model_id, wait))

    def capabilities(self, model_id: str) -> reports.CapabilityReport:
        """What the model can do and what it cannot, with who says so and why. To have it asked:
        ``create_job("probe", model=model_id)``."""
        return self._transport.do(calls.capabilities(model_id))

    def find_best(self, **wanted: Unpack[types.Wanted]) -> reports.Findings:
        """Which model suits a purpose best, and why: see ``types.Wanted`` for the conditions."""
        return self._transport.do(calls.find_best(wanted))

    def versions(self, model_id: str) -> list[reports.Version]:
        """What the model's entry said before each of its last changes, newest first."""
        return self._transport.do(calls.versions(model_id))

    def rollback(self, model_id: str, version: int) -> types.ModelView:
        """Let the model's entry say again what it said; it counts from the next load on."""
        return self._transport.do(calls.rollback(model_id, version))

    def plan(self, model_id: str) -> reports.LoadPlan:
        """What loading the model would do right now; nothing is changed."""
        return self._transport.do(calls.plan(model_id))

    def history(self, model_id: str, limit: int = 50, before: int | None = None) -> reports.History:
        """What happened to the model, newest first, also before the pool's last restarts."""
        return self._transport.do(calls.history(model_id, limit, before))

    def model_health(self, model_id: str) -> dict[str, Any]:
        """The health of a model's worker, or why there is none: see ``status`` in it."""
        return self._transport.do(calls.model_health(model_id))

    def logs(self, model_id: str, lines: int = 100, follow: bool = False) -> Iterator[str]:
        """The last lines of a worker's log; with ``follow`` also those to come, without end:
        after a restart of the pool it goes on where it was."""
        attempts, reader = self._transport.attempts(), LogReader(follow)
        while True:
            call = calls.logs(model_id, lines, follow, reader.offset)
            try:
                with self._transport.stream(call, ONCE) as response:
                    attempts = self._transport.attempts()
                    reader.begin(response.headers)
                    for chunk in response.iter_bytes():
                        yield from reader.feed(chunk)
                if not follow:
                    yield from reader.rest()
                    return
                error: ModelPoolError = connection_lost(self.base_url, "the log ended")
            except ModelPoolError as e:
                error = e
            if not reader.can_resume:
                raise error
            self._transport.sleep(attempts.delay_after(error))

    # -- jobs -----------------------------------------------------------------------------------

    def jobs(self, kind: str | None = None, state: str | None = None) -> list[reports.JobView]:
        """What takes longer than a request: all that are not over, and the last that are."""
        return self._transport.do(calls.jobs(kind, state))

    def job(self, job_id: str, wait: float = 0.0) -> reports.JobView:
        """One job; with ``wait`` once it rests or is over, or after that many seconds."""
        return self._transport.do(calls.job(job_id, wait))

    def create_job(self, kind: str, **data: Any) -> reports.JobView:
        """Begin a job, or find the one that does just that already; ``data`` is the kind's."""
        return self._transport.do(calls.create_job(kind, data))

    def change_job(self, job_id: str, action: str) -> reports.JobView:
        """Ask a job to ``cancel``, ``pause`` or ``resume``; the job as it then is."""
        return self._transport.do(calls.change_job(job_id, action))

    def remove_job(self, job_id: str) -> str:
        """Forget a job that is over."""
        return self._transport.do(calls.remove_job(job_id))

    # -- discovery ------------------------------------------------------------------------------

    def discover(
        self, *paths: str, source: str | None = None, restore: bool = False
    ) -> reports.JobView:
        """Have the pool look for models in folders, or in all that it knows: a job. ``restore``
        brings back models that were deleted."""
        return self._transport.do(calls.discover(paths, source, restore))

    def found(self, kind: str | None = None, limit: int = 100, offset: int = 0) -> reports.Found:
        """What is on the disk: a page of all, or of one kind: ``model``, ``companion``,
        ``broken``, ``unsettled``, ``duplicate``."""
        return self._transport.do(calls.found(kind, limit, offset))

    # -- pulls ----------------------------------------------------------------------------------

    def pull(self, source: str, **data: Any) -> reports.JobView:
        """Begin to fetch a model: ``hf:owner/repo[:quantisation]``, ``ollama:name[:tag]``, a URL
        or a path; ``data`` may hold ``model_id``, ``aliases``, ``options``, ``digest`` …"""
        return self._transport.do(calls.pull(source, data))

    def disk(self) -> dict[str, Any]:
        """What the disk holds by model."""
        return self._transport.do(calls.disk())

    def prune(self, dry_run: bool = False) -> dict[str, Any]:
        """Remove pulled files that no model uses, and downloads that nobody goes on with."""
        return self._transport.do(calls.prune(dry_run))

    # -- figures and options --------------------------------------------------------------------

    def profile(self, model_id: str, **body: Any) -> reports.JobView:
        """Begin to measure how fast the model is; ``body`` may hold ``streams``, ``prompt_tokens``
        and others of ``POST /models/{id}/profile``."""
        return self._transport.do(calls.profile(model_id, body))

    def profiles(self, model_id: str) -> reports.Profiles:
        """What was measured of the model, newest first, and what changed since the time before."""
        return self._transport.do(calls.profiles(model_id))

    def tune(self, model_id: str, **body: Any) -> reports.JobView:
        """Begin to look for better load options; ``body`` may hold ``goal`` and others of
        ``POST /models/{id}/tune``."""
        return self._transport.do(calls.tune(model_id, body))

    def untune(self, model_id: str) -> dict[str, Any]:
        """Forget what was found by ``tune``."""
        return self._transport.do(calls.untune(model_id))

    def options(
        self, model_id: str, changes: Mapping[str, Any] | None = None
    ) -> reports.ModelOptions:
        """The model's load options and where each comes from. ``changes`` are saved before, None
        removes one; they count from the next load on."""
        return self._transport.do(calls.options(model_id, changes))

    # -- inference -------------------------------------------------------------------------------

    def chat(self, model: str, messages: Messages, **params: Any) -> types.Reply:
        """The model's answer to messages, or to one text; ``params`` as in OpenAI's API."""
        return self._transport.do(calls.chat(model, messages, False, params))

    def chat_stream(self, model: str, messages: Messages, **params: Any) -> Iterator[str]:
        """The same, piece by piece. Raises ``WorkerFailed`` if the answer is cut off."""
        parser, reader = EventParser(), ChunkReader()
        with self._transport.stream(calls.chat(model, messages, True, params)) as response:
            for chunk in response.iter_bytes():
                yield from filter(None, (reader.text(sse.data) for sse in parser.feed(chunk)))
        reader.finish()

    def generate(self, model: str, prompt: str, **params: Any) -> types.Reply:
        """The model's continuation of a prompt; ``params`` as in OpenAI's completions API."""
        return self._transport.do(calls.generate(model, prompt, params))

    def embed(
        self, model: str, texts: Sequence[str], dimensions: int | None = None
    ) -> dict[str, Any]:
        """A vector a text, as OpenAI's embeddings API answers."""
        return self._transport.do(calls.embed(model, texts, dimensions))

    def rerank(
        self, model: str, query: str, documents: Sequence[str], top_n: int | None = None
    ) -> dict[str, Any]:
        """Documents by how well they answer a query, as Jina's and Cohere's APIs answer."""
        return self._transport.do(calls.rerank(model, query, documents, top_n))

    def transcribe(
        self, model: str, audio: bytes, file_name: str = "audio.wav", **params: str
    ) -> dict[str, Any]:
        """The text of recorded speech; ``params`` as in OpenAI's transcriptions API."""
        return self._transport.do(calls.transcribe(model, audio, file_name, params))

    def openai_models(self) -> list[dict[str, Any]]:
        """The models in OpenAI's form."""
        return self._transport.do(calls.openai_models())

    def openai(self, model: str | None = None) -> openai.OpenAI:
        """An OpenAI client for the pool, or for a model's own worker, which is loaded first.

        Raises:
            NotSupported: the openai package is not installed.
        """
        sdk = openai_sdk()
        url = worker_url(self.endpoint(model)) if model else f"{self.base_url}/v1"
        http = sdk.DefaultHttpxClient(trust_env=self._transport.trust_env)
        client: openai.OpenAI = sdk.OpenAI(base_url=url, api_key="modelpool", http_client=http)
        return client

    def _watch(
        self, call: calls.Call[types.ModelView], model_id: str, on_progress: OnProgress
    ) -> types.ModelView:
        """Wait for a load in a thread of its own, looking at the model meanwhile."""
        load: Future[types.ModelView] = Future()
        # Daemon, unlike an executor's threads: an interrupted program need not wait for the load.
        task = (load, lambda: self._transport.do(call))
        threading.Thread(target=_settle, args=task, daemon=True).start()
        while not wait([load], timeout=WATCH_SECONDS).done:
            if view := self._peek(model_id):
                on_progress(view)
        on_progress(load.result())
        return load.result()

    def _peek(self, model_id: str) -> types.ModelView | None:
        try:
            return self._transport.do(calls.model(model_id), ONCE)
        except ModelPoolError:
            return None


def _settle(future: Future[T], work: Callable[[], T]) -> None:
    try:
        future.set_result(work())
    except BaseException as e:
        future.set_exception(e)
