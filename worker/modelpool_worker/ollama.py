"""What of Ollama's API is about models, of which there is one here: its clients look before they
ask. What changes models is the manager's."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING

from modelpool_client.errors import MethodNotAllowed, NotSupported
from modelpool_client.surfaces.body import parse_object
from modelpool_client.surfaces.openai import check_model
from modelpool_client.surfaces.routes import OLLAMA_MANAGEMENT

if TYPE_CHECKING:
    from modelpool_client.http1.exchange import Exchange
    from modelpool_client.surfaces import ollama as api

    from .worker import Worker

ROOT, TAGS, PS, VERSION, SHOW = "/", "/api/tags", "/api/ps", "/api/version", "/api/show"
_METHODS = {ROOT: "GET", TAGS: "GET", PS: "GET", VERSION: "GET", SHOW: "POST"}
_LARGEST_BODY_BYTES = 1 << 20
_NS = 1_000_000_000


def is_about_models(path: str) -> bool:
    """Is it one of those, and no surface?"""
    return path == ROOT or path in OLLAMA_MANAGEMENT


async def answer(worker: Worker, exchange: Exchange, path: str) -> None:
    """Answer ``GET /``, ``/api/tags``, ``/api/ps`` and ``/api/version``, and ``POST /api/show``.

    Raises:
        MethodNotAllowed: they take another method.
        NotSupported: it is one by which models are changed.
        InvalidRequest, ModelNotFound: of ``/api/show``: it names no model, or another one.
        ModelLoading, LoadFailed: there is no model yet to tell of.
    """
    from modelpool_client.surfaces import ollama as api

    expected = _METHODS.get(path)
    if expected is None:
        text = f"{path}: a worker has its one model; ask the pool's own port"
        raise NotSupported(text, source="worker")
    method = exchange.request.method
    if ("GET" if method == "HEAD" else method) != expected:
        raise MethodNotAllowed.of(path, method, (expected,))
    if path == ROOT:
        exchange.send(200, [(b"content-type", b"text/plain")], api.ROOT_TEXT.encode())
        return
    if path == VERSION:
        exchange.send_json(200, api.version_body())
        return
    worker.check_ready(draining_too=True)
    model_id = worker.assignment.model_id
    if path == TAGS:
        names = (model_id, *worker.aliases)
        exchange.send_json(200, api.tags_body([_listed(worker, name) for name in names]))
    elif path == PS:
        exchange.send_json(200, api.ps_body([_running(worker)]))
    else:
        data = parse_object(await exchange.read_body(_LARGEST_BODY_BYTES))
        check_model({"model": api.asked_model(SHOW, data)}, model_id, worker.aliases)
        options = worker.assignment.options
        template = options.get("chat_template")
        if not template:
            template = await asyncio.to_thread(_template_in, worker.assignment.source)
        body = api.show_body(
            _listed(worker, model_id),
            parameters=api.parameters_of(options),
            template=template if isinstance(template, str) else "",
        )
        exchange.send_json(200, body)


def _template_in(source: str) -> str:
    """The chat template in use of a GGUF file or of a folder; empty where there is none."""
    from modelpool_client.errors import LoadFailed

    from .engines.gguf import CHAT_TEMPLATE, read_chat_templates
    from .engines.tokenizer_folder import template_in

    if os.path.isfile(source):
        return read_chat_templates(source).get(CHAT_TEMPLATE, "")
    try:
        return template_in(source) if os.path.isdir(source) else ""
    except LoadFailed:
        return ""


def _listed(worker: Worker, name: str) -> api.Listed:
    from modelpool_client.surfaces import ollama as api

    assignment, listed = worker.assignment, worker.listed()
    details = api.Details(
        format="gguf" if assignment.source.casefold().endswith(".gguf") else "",
        context_length=listed.context_length or 0,
    )
    return api.Listed(
        name,
        modified_ns=int(listed.created * _NS),
        details=details,
        capabilities=assignment.capabilities,
    )


def _running(worker: Worker) -> api.Running:
    from modelpool_client.surfaces import ollama as api

    memory, left = worker.memory.latest, worker.lease_left(worker.now())
    devices = sum(memory.devices.values()) if memory else 0
    host = (memory.total if memory else None) or 0
    return api.Running(
        _listed(worker, worker.assignment.model_id),
        host + devices,
        devices,
        None if left is None else time.time_ns() + int(left * _NS),
        worker.context_length or 0,
    )
