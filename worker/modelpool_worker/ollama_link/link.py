"""The link of a worker to the servers of Ollama that hold its model."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelpool_client.errors import EngineFailed, LoadFailed, ModelPoolError, Unavailable
from modelpool_client.http1.message import Headers
from modelpool_client.http1.upstream_connection import (
    BadReply,
    BrokenOff,
    UpstreamConnection,
    UpstreamError,
)
from modelpool_client.surfaces.routes import CHAT_PATH, EMBEDDINGS_PATH, TEXT_PATH

from modelpool_worker.engine import EngineJob, Status
from modelpool_worker.link import Held, Reply, WholeReply

from .addresses import Address
from .answers import Chunks, Infill, Own, Telling, embeddings, error_body
from .asks import (
    CHAT,
    EMBED,
    GENERATE,
    INFILL_PATH,
    OLD_EMBED,
    Target,
    asked,
    load_body,
    load_options,
    unload_body,
)
from .client import OllamaClient, Refused
from .facts import (
    LOGPROBS,
    NO_SILENT_CUT,
    OLDEST,
    THINK_LEVELS,
    ModelFacts,
    context_length_of,
    model_facts,
    running_of,
    unable,
    version_of,
)
from .reply import LineReply
from .servers import Server, held, ranked

log = logging.getLogger(__name__)

TEXT_PATHS = (CHAT_PATH, TEXT_PATH, CHAT, GENERATE)
VECTOR_PATHS = (EMBEDDINGS_PATH, EMBED, OLD_EMBED)
SILENCE_SECONDS = 300.0
# A server may refuse a load because its queue is full, or it is still starting.
BUSY_PAUSES = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0)
# A worker has five seconds more than its requests to end.
UNLOAD_SECONDS = 4.0
UNLOAD_PAUSE_SECONDS = 0.05
# Another server may be able to answer, for this one did not begin: it lacks the model, is too busy,
# or is a proxy in front of none.
ELSEWHERE = frozenset({404, 502, 503, 504})
TROUBLES = (UpstreamError, Refused)


@dataclass(frozen=True)
class Settings:
    """What the options of a model say of its servers.

    Attributes:
        device: see ``servers.held``.
        silence_seconds: for which one may say nothing before or in an answer.
    """

    addresses: Sequence[Address]
    device: str | None = None
    silence_seconds: float = SILENCE_SECONDS
    key: str = ""


class OllamaLink:
    """Asks the least busy of the servers that hold the model, and the next where one does not
    begin to answer. It alone writes what is known of them."""

    def __init__(self, job: EngineJob, settings: Settings) -> None:
        self.servers = [Server(address) for address in settings.addresses]
        self._settings = settings
        self._options = job.options
        self._model_id = job.model_id
        self._name = job.source
        self._client = OllamaClient(settings.key)
        self._facts = ModelFacts(frozenset())
        self._target = Target(self._name, {})
        self._tasks: set[asyncio.Task[None]] = set()
        self._was_opened = self._is_ready = self._is_closed = False

    def __repr__(self) -> str:
        return f"<OllamaLink {self._name} {self.servers}>"

    # -- the life of a worker --------------------------------------------------------------------

    async def open(self, status: Status) -> None:
        """See ``RemoteLink``: load the model on every server that has it."""
        self._was_opened = True
        await asyncio.gather(*map(self._meet, self.servers))
        self._check_some(self._up(), "no server of Ollama answers", self._advice_to_start())
        shown = await asyncio.gather(*map(self._show, self._up()))
        facts = [each for each in shown if each is not None]
        have = [s for s in self._up() if s.has_model]
        self._check_some(have, f"there is no model {self._name!r}", self._advice_to_pull())
        self._take(facts[0], have)
        status.progress("load")
        await asyncio.gather(*map(self._load, have))
        holding = [s for s in have if s.running is not None]
        self._check_some(holding, f"{self._name} cannot be loaded", "")
        self._is_ready = True
        contexts = [s.running.context_length for s in holding if s.running is not None]
        context = min([n for n in contexts if n] or [self._target.options["num_ctx"]])
        if context < self._target.options["num_ctx"]:
            wanted = self._target.options["num_ctx"]
            log.warning("Ollama holds a context of %d tokens, not of %d", context, wanted)
        oldest = min(s.version for s in holding)
        status.ready(
            context_length=context,
            serves=VECTOR_PATHS if self._facts.is_embedding else self._text_paths(),
            unable=unable(self._facts.capabilities, oldest),
        )

    def _text_paths(self) -> Sequence[str]:
        if "embedding" in self._facts.capabilities:
            return (*TEXT_PATHS, *VECTOR_PATHS)
        return TEXT_PATHS

    async def probe(self) -> None:
        """See ``RemoteLink``: one of the servers answers."""
        await asyncio.gather(*map(self._look, self.servers))
        if not self._up():
            raise self._nobody()

    async def held(self) -> Held:
        """See ``HoldsMemory``: as ``/api/ps`` says. Servers that are back are found by it."""
        if self._is_ready:
            await asyncio.gather(*map(self._look, self.servers))
        device, is_unified = self._settings.device, sys.platform == "darwin"
        return held(self.servers, device, is_unified=is_unified)

    async def unload(self) -> None:
        """See ``HoldsMemory``: until none lists the model any more, for ``UNLOAD_SECONDS``."""
        self._is_ready = False
        for task in self._tasks:
            task.cancel()
        if self._was_opened and not self._target.options:  # nothing was loaded
            return
        try:
            async with asyncio.timeout(UNLOAD_SECONDS):
                if not self._was_opened:
                    await asyncio.gather(*map(self._look, self.servers))
                holding = [s for s in self._up() if self._was_opened or s.running is not None]
                await asyncio.gather(*map(self._unload, holding))
        except TimeoutError:
            names = ", ".join(str(s.address) for s in self.servers if s.running is not None)
            log.warning("Ollama still holds %s at %s: `ollama stop` ends it", self._name, names)

    async def accepts(self) -> bool:
        """See ``Link``."""
        return True

    def close(self) -> None:
        """See ``Link``."""
        self._is_closed = True
        for task in self._tasks:
            task.cancel()
        self._client.close()

    # -- requests --------------------------------------------------------------------------------

    async def request(
        self, method: str, target: bytes, headers: Headers, body: bytes = b""
    ) -> Reply:
        """See ``Link``.

        Raises:
            Unavailable: all servers are too busy.
        """
        path = target.decode()
        said = json.loads(body)
        asks, ours = asked(self._target, path, said)
        trouble: tuple[Server, Exception] | None = None
        for server in ranked(self.servers):
            server.in_flight += 1
            is_passed_on = False
            try:
                reply = await self._answer(server, path, said, asks, ours)
                is_passed_on = isinstance(reply, LineReply)
                return reply
            except TROUBLES as e:
                if isinstance(e, Refused):
                    server.has_model = server.has_model and e.status != 404
                elif not isinstance(e, BadReply):
                    self._is_down(server, str(e))
                log.warning("%s did not answer: %s", server.address, e)
                trouble = (server, e)
            finally:
                if not is_passed_on:
                    server.in_flight -= 1
        raise self._failed(trouble)

    async def _answer(
        self,
        server: Server,
        path: str,
        said: Mapping[str, Any],
        asks: str,
        ours: Mapping[str, Any],
    ) -> Reply:
        """Up to the first piece of its body, or all of one that is no stream.

        Raises:
            UpstreamError: there is none.
            Refused: another server may be able to.
        """
        is_stream = asks in (CHAT, GENERATE) and ours.get("stream", True) is not False
        # One that is no stream says nothing until it is all there.
        limit = self._settings.silence_seconds if is_stream else None
        try:
            async with asyncio.timeout(limit):
                connection = await self._client.ask(server.address, "POST", asks, ours)
                if connection.status != 200:
                    return await _refusal(connection)
                if not is_stream:
                    with connection:
                        data = await connection.read()
                    return WholeReply(200, self._whole(path, said, ours, data))
                first = await _first_piece(connection)
        except TimeoutError:
            raise BrokenOff(f"it said nothing for {limit:g} s") from None
        telling = self._telling(path, said)
        silence = self._settings.silence_seconds
        return LineReply(connection, first, telling, silence, lambda: _less(server))

    def _whole(
        self, path: str, said: Mapping[str, Any], ours: Mapping[str, Any], data: bytes
    ) -> bytes:
        if path == EMBEDDINGS_PATH:
            return embeddings(data, self._model_id, len(ours["input"]))
        own = Own(self._name, str(said.get("model") or self._model_id))
        told = own.line(data)
        if not own.is_done:
            raise BadReply("Ollama sent an answer that is not done")
        return told

    def _telling(self, path: str, said: Mapping[str, Any]) -> Telling:
        if path == INFILL_PATH:
            return Infill()
        if path in (CHAT_PATH, TEXT_PATH):
            is_chat = path == CHAT_PATH
            kind = "chatcmpl" if is_chat else "cmpl"
            head = {
                "id": f"{kind}-{uuid.uuid4().hex}",
                "created": int(time.time()),
                "model": self._model_id,
            }
            wants_usage = bool((said.get("stream_options") or {}).get("include_usage"))
            return Chunks(head, is_chat=is_chat, wants_usage=wants_usage)
        return Own(self._name, str(said.get("model") or self._model_id))

    def _failed(self, trouble: tuple[Server, Exception] | None) -> ModelPoolError:
        if trouble is None:
            return self._nobody()
        server, error = trouble
        text = f"no server of Ollama began to answer; the last, {server.address}, said: {error}"
        if isinstance(error, Refused) and error.status == 503:
            return Unavailable(text, source="engine", retry_after=1)
        if isinstance(error, Refused) and error.status == 404:
            text += f"; {self._advice_to_pull()}"
        return EngineFailed(text, source="engine")

    # -- one server ------------------------------------------------------------------------------

    async def _meet(self, server: Server) -> None:
        """Ask for its version, which is said where it is another."""
        try:
            told = await self._client.whole(server.address, "GET", "/api/version")
        except TROUBLES as e:
            self._is_down(server, str(e))
            return
        text = str(told.get("version") or "unknown")
        server.is_up, server.trouble = True, ""
        is_new, server.version_text, server.version = (
            server.version_text != text,
            text,
            version_of(text),
        )
        if server.version < OLDEST:
            oldest = ".".join(map(str, OLDEST))
            self._is_down(server, f"runs Ollama {text}, and at least {oldest} is needed")
        elif is_new:
            self._say_version(server)

    def _say_version(self, server: Server) -> None:
        text = server.version_text
        log.info("%s runs Ollama %s", server.address, text)
        if server.version < NO_SILENT_CUT:
            log.warning(
                "Ollama %s cuts off prompts that are too long for the context without a word",
                text,
            )
        elif server.version < LOGPROBS:
            log.info("Ollama %s tells no log probabilities", text)

    async def _show(self, server: Server) -> ModelFacts | None:
        try:
            body = {"model": self._name}
            shown = await self._client.whole(server.address, "POST", "/api/show", body)
        except Refused as e:
            server.has_model, server.trouble = False, str(e)
            return None
        except UpstreamError as e:
            self._is_down(server, str(e))
            return None
        server.has_model = True
        return model_facts(shown)

    def _take(self, facts: ModelFacts, have: Sequence[Server]) -> None:
        self._facts = facts
        options = load_options(self._options, context_length_of(self._options, facts))
        oldest = min(server.version for server in have)
        own_penalty = "repeat_penalty" in facts.parameters
        self._target = Target(self._name, options, oldest >= THINK_LEVELS, own_penalty)
        log.info(
            "%s: %s %s %s, %s; it is asked for a context of %d tokens",
            self._name,
            facts.family,
            facts.size,
            facts.quantization,
            ", ".join(sorted(facts.capabilities)),
            options["num_ctx"],
        )

    async def _load(self, server: Server) -> None:
        """Have it load the model; one that is too busy is asked again."""
        path, body = load_body(self._target, embeds=self._facts.is_embedding)
        for pause in (*BUSY_PAUSES, None):
            try:
                await self._client.whole(server.address, "POST", path, body, seconds=None)
                await self._look(server)
                return
            except Refused as e:
                if e.status == 503 and pause is not None:
                    await asyncio.sleep(pause)
                    continue
                server.trouble = str(e)
            except UpstreamError as e:
                self._is_down(server, str(e))
            log.warning("%s could not load %s: %s", server.address, self._name, server.trouble)
            return

    async def _look(self, server: Server) -> None:
        """Ask what it holds."""
        was_up, was_held = server.is_up, server.running is not None
        if not was_up:
            await self._meet(server)
            if not server.is_up:
                return
        try:
            told = await self._client.whole(server.address, "GET", "/api/ps")
        except TROUBLES as e:
            self._is_down(server, str(e))
            return
        server.is_up, server.trouble = True, ""
        server.running = running_of(told, self._name)
        if server.running is not None:
            server.has_model = True
        elif self._is_ready and not was_up:
            log.info("%s is back", server.address)
            self._spawn(self._come_back(server))
        elif self._is_ready and was_held:
            log.warning(
                "%s has unloaded %s, and not for this pool; the next request loads it again",
                server.address,
                self._name,
            )

    async def _come_back(self, server: Server) -> None:
        """Of one that is used again: it holds the model as the others do."""
        await self._show(server)
        if server.is_up and server.has_model:
            await self._load(server)

    async def _unload(self, server: Server) -> None:
        try:
            body = unload_body(self._name)
            await self._client.whole(server.address, "POST", GENERATE, body)
            while server.is_up:
                told = await self._client.whole(server.address, "GET", "/api/ps")
                server.running = running_of(told, self._name)
                if server.running is None:
                    return
                await asyncio.sleep(UNLOAD_PAUSE_SECONDS)
        except TROUBLES as e:
            log.warning("%s was not told to unload %s: %s", server.address, self._name, e)

    def _is_down(self, server: Server, why: str) -> None:
        if server.is_up and self._is_ready:
            log.warning("%s is down: %s", server.address, why)
        server.is_up, server.trouble, server.running = False, why, None

    def _up(self) -> list[Server]:
        return [server for server in self.servers if server.is_up]

    def _spawn(self, work: Any) -> None:
        if not self._is_closed:
            task = asyncio.get_running_loop().create_task(work)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    # -- what is said of it ----------------------------------------------------------------------

    def _check_some(self, found: Sequence[Server], what: str, advice: str) -> None:
        """Raises LoadFailed where there is none."""
        if found:
            return
        told = "; ".join(f"{s.address}: {s.trouble}" for s in self.servers)
        lacks_memory = any("memory" in s.trouble for s in self.servers)
        code = "oom" if lacks_memory else "load_failed"
        text = f"{what}: {told}" + (f"; {advice}" if advice else "")
        raise LoadFailed(text, code=code, source="engine")

    def _advice_to_start(self) -> str:
        return "start it with `ollama serve`, or say where it is with the option servers"

    def _advice_to_pull(self) -> str:
        return (
            f"pull it with `poolctl pull ollama-server:{self._name}`, or with"
            f" `ollama pull {self._name}` where that server is"
        )

    def _nobody(self) -> EngineFailed:
        told = "; ".join(f"{s.address}: {s.trouble}" for s in self.servers)
        return EngineFailed(f"no server of Ollama answers: {told}", source="engine")


def _less(server: Server) -> None:
    server.in_flight -= 1


async def _first_piece(connection: UpstreamConnection) -> bytes:
    """Of its body; the connection is ended where there is none."""
    try:
        if first := await connection.piece():
            return first
        raise BrokenOff("its answer is empty")
    except BaseException:
        connection.__exit__(None, None, None)
        raise


async def _refusal(connection: UpstreamConnection) -> WholeReply:
    """What it says in place of an answer.

    Raises:
        Refused: another server may be able to answer.
    """
    with connection:
        body = error_body(connection.status, await connection.read())
    if connection.status in ELSEWHERE:
        raise Refused(connection.status, json.loads(body)["error"]["message"])
    return WholeReply(connection.status, body)
