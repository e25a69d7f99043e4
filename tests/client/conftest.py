"""A small fake of the manager: real HTTP, a port of its own, strict about what it is sent."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from modelpool_client import errors

MODEL = "org/tiny:7b"


def view(model_id: str = MODEL, **changes: Any) -> dict[str, Any]:
    """A model as the manager shows it, and one key of a later version."""
    known = {
        "model_id": model_id,
        "engine": "fake",
        "source": "/models/tiny.gguf",
        "state": "COLD",
        "reason": "never loaded",
        "port": None,
        "endpoint": None,
        "ttl_remaining_minutes": 0,
        "tags": ["small"],
        "memory_estimate_mb": 1200,
        "replicas": [],
        "of_a_later_version": {"a": 1},
    }
    return known | changes


VERBS = ("load", "unload", "extend-ttl", "endpoint", "logs", "health", "plan", "history")


class FakePool(ThreadingHTTPServer):
    """What it holds and what it was asked; tests look at it and change it."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.models = {MODEL: view()}
        self.requests: list[tuple[str, str, Any]] = []
        self.last_event_ids: list[str | None] = []
        self.events: list[dict[str, Any]] = []
        self.errors: dict[str, list[errors.ModelPoolError]] = {}
        self.load_seconds = 0.0
        self.cut_stream = False
        self.drop_next = 0
        self.run = "before"
        self.is_worker_lost = True
        self.log: list[str] = []  # what each connection that follows one adds
        self.log_offset = 700
        self.taught: list[dict[str, Any]] = []
        self.settings = {"default_ttl_minutes": 15, "auto_unload": True}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def answered(self, path: str) -> list[Any]:
        """The bodies of all requests for that path."""
        return [body for _, asked, body in self.requests if asked == path]

    def happen(self, event: str, **data: Any) -> None:
        number = str(len(self.events) + 1)
        self.events.append({"id": number, "event": event, "model_id": MODEL} | data)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakePool

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except (ConnectionError, ValueError):
            self.close_connection = True

    def do_GET(self) -> None:
        self.answer()

    do_POST = do_PATCH = do_DELETE = do_GET

    def answer(self) -> None:
        size = int(self.headers.get("content-length") or 0)
        self.body = json.loads(self.rfile.read(size)) if size else None
        url = urlsplit(self.path)
        path, self.query = unquote(url.path), {k: v[0] for k, v in parse_qs(url.query).items()}
        self.server.requests.append((self.command, self.path, self.body))
        if self.server.drop_next:
            self.server.drop_next -= 1
            self.close_connection = True
            return
        try:
            if scripted := self.server.errors.get(path):
                raise scripted.pop(0)
            self.route(path)
        except errors.ModelPoolError as e:
            self.send(e.body(), e.status, e.headers())

    def send(self, body: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        is_text = isinstance(body, str)
        data = (body if is_text else json.dumps(body)).encode()
        self.send_response(status)
        self.send_header("content-type", "text/plain" if is_text else "application/json")
        self.send_header("content-length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def stream(self, content_type: str, **headers: str) -> Callable[[str], None]:
        self.send_response(200)
        self.send_header("content-type", content_type)
        self.send_header("connection", "close")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.close_connection = True

        def write(text: str) -> None:
            self.wfile.write(text.encode())
            self.wfile.flush()

        return write

    def route(self, path: str) -> None:
        fixed = getattr(self, f"{self.command}_{path.strip('/').replace('/', '_')}", None)
        if fixed is not None:
            return fixed()
        if not path.startswith("/models/"):
            raise errors.NotFound(f"no route {self.command} {path}")
        rest = path.removeprefix("/models/")
        for verb in VERBS:
            if rest.endswith(f"/{verb}"):
                model = self.model(rest.removesuffix(f"/{verb}"))
                return getattr(self, f"model_{verb.replace('-', '_')}")(model)
        return getattr(self, f"{self.command}_model")(self.model(rest))

    def model(self, model_id: str) -> dict[str, Any]:
        if model_id not in self.server.models:
            raise errors.ModelNotFound(f"no model {model_id!r}; near: {MODEL}", param="model_id")
        return self.server.models[model_id]

    def GET_config_file(self) -> None:
        self.send({**self.server.settings, "models": list(self.server.models.values())})

    # -- outcomes

    def POST_route_d1_outcome(self) -> None:
        if self.server.taught:
            raise errors.Conflict("told before", code="already_reported")
        taught = {"model": MODEL, "task_type": "math", "offset": -0.02, "outcomes": 1}
        self.server.taught.append(taught)
        self.send({**taught, "message": f"{MODEL} at math: -0.0200, by 1 outcomes"})

    def GET_route_outcomes(self) -> None:
        is_on = bool(self.server.settings.get("learn_from_outcomes"))
        self.send({"is_on": is_on, "half_life_days": 30.0, "learned": self.server.taught})

    def DELETE_route_outcomes(self) -> None:
        count = len(self.server.taught)
        self.server.taught.clear()
        self.send({"message": f"forgotten: {count}", "forgotten": count})

    # -- models

    def GET_models(self) -> None:
        self.send({"models": list(self.server.models.values())})

    def GET_model(self, model: dict[str, Any]) -> None:
        self.send(model)

    def POST_models_register(self) -> None:
        model_id = self.body["model_id"]
        if model_id in self.server.models:
            raise errors.ModelExists(f"{model_id} is there already")
        self.server.models[model_id] = view(**self.body)
        self.send({"model": self.server.models[model_id]}, 201)

    def DELETE_model(self, model: dict[str, Any]) -> None:
        del self.server.models[model["model_id"]]
        self.send({"deleted": model["model_id"]})

    def model_load(self, model: dict[str, Any]) -> None:
        model |= {"state": "WARMING", "reason": "asked for"}
        if "wait" not in self.query:
            return self.send({"message": "loading", "model": model}, 202)
        model["progress"] = {"stage": "weights", "fraction": 0.4, "eta_seconds": 3}
        time.sleep(self.server.load_seconds)
        where = {"port": 8051, "endpoint": "http://127.0.0.1:8051", "progress": None}
        model |= {"state": "HOT", "expires_at": "2030-01-01T00:00:00Z", **where}
        model["ttl_remaining_minutes"] = 15
        return self.send({"message": "loaded", "model": model})

    def POST_models_load(self) -> None:
        asked = [self.model(name) for name in self.body["models"]]
        time.sleep(self.server.load_seconds)
        outcomes = []
        for model in asked:
            error = None
            if model["source"] == "broken":
                error = {"message": "it is broken", "code": "bad_file", "details": {}}
            else:
                model |= {"state": "HOT", "port": 8051, "endpoint": "http://127.0.0.1:8051"}
            outcome = "loaded" if error is None else "failed"
            why = "loaded" if error is None else "it is broken"
            known = {"model_id": model["model_id"], "outcome": outcome, "reason": why}
            outcomes.append(known | {"error": error, "model": model})
        is_bad = any(each["error"] for each in outcomes)
        self.send({"message": "done", "models": outcomes}, 207 if is_bad else 200)

    def POST_models_plan(self) -> None:
        asked = [self.model(name) for name in self.body["models"]]
        victim = {"model_id": "other", "memory_mb": 900.0, "reason": "idle for 70 s"}
        known = {"action": "start", "reason": "it fits", "memory_mb": 1200.0, "later": 1}
        steps = [known | {"model_id": model["model_id"]} for model in asked]
        figures = {"limit_mb": 2000, "held_mb": 1500, "free_mb": 500, "host_available_mb": 9000}
        answer = {"action": "start", "reason": "2 would start", "steps": steps, "evict": [victim]}
        self.send(answer | {"memory": figures, "models": {"held": 2, "limit": 5}})

    def model_unload(self, model: dict[str, Any]) -> None:
        if model.get("pinned") and not self.body["force"]:
            raise errors.UnloadProtected(f"{model['model_id']} is pinned")
        model |= {"state": "COLD", "port": None, "endpoint": None}
        self.send({"message": "unloaded", "model": model})

    def model_extend_ttl(self, model: dict[str, Any]) -> None:
        if model.get("ttl_minutes") == 0:
            known = {"model_id": model["model_id"], "granted_minutes": 0, "capped": False}
            return self.send(known | {"message": "never expires", "expires_at": None})
        granted = min(self.body["minutes"], 45)
        left = {"ttl_remaining_minutes": 15 + granted, "expires_at": "2030-01-01T00:45:00Z"}
        capped = granted < self.body["minutes"]
        known = {"model_id": model["model_id"], "granted_minutes": granted, "capped": capped}
        return self.send(known | left)

    def model_endpoint(self, model: dict[str, Any]) -> None:
        known = {"model_id": model["model_id"], "state": "HOT", "port": self.server.server_port}
        self.send(known | {"endpoint": self.server.url, "base_url": f"{self.server.url}/v1"})

    def model_health(self, model: dict[str, Any]) -> None:
        is_up = model["state"] == "HOT"
        body = {"model": model["model_id"], "status": "ready" if is_up else "cold"}
        self.send(body, 200 if is_up else 503)

    def model_logs(self, model: dict[str, Any]) -> None:
        text = "".join(f"line {n}\n" for n in range(int(self.query["lines"])))
        if self.query.get("follow") != "true":
            return self.stream("text/plain")(text)
        if not self.server.log:
            raise errors.ModelNotFound("it was deleted", param="model_id")
        if "offset" in self.query:
            assert int(self.query["offset"]) == self.server.log_offset, "nothing left out"
            text = ""
        text += self.server.log.pop(0)
        self.stream("text/plain", x_modelpool_log_offset=str(self.server.log_offset))(text)
        self.server.log_offset += len(text.encode())
        return None

    def model_plan(self, model: dict[str, Any]) -> None:
        victim = {"model_id": "other", "memory_mb": 900.0, "reason": "idle for 70 s"}
        figures = {"limit_mb": 2000, "held_mb": 1500, "free_mb": 500, "host_available_mb": 9000}
        known = {"model_id": model["model_id"], "action": "start", "reason": "once other made room"}
        known |= {"evict": [victim], "port": 8052, "needs": {"memory_mb": 1200}}
        self.send(known | {"memory": figures, "models": {"held": 2, "limit": 5}, "later": 1})

    def model_history(self, model: dict[str, Any]) -> None:
        known = {"model_id": model["model_id"], "at": "2030-01-02T03:04:05.678+00:00"}
        hot = {"number": 8, "event": "model-loaded", "state": "HOT", "previous": "WARMING"}
        warming = {"number": 7, "event": "model-loading", "state": "WARMING", "previous": "COLD"}
        told = [
            known | hot | {"reason": "loaded", "port": 8051, "lasted_seconds": None},
            known | warming | {"reason": "a request came", "lasted_seconds": 75.5},
        ][: int(self.query["limit"])]
        self.send({"model_id": model["model_id"], "events": told, "next_before": 7})

    # -- the pool

    def GET_requests(self) -> None:
        first = {"at": "2030-01-02T03:04:05.678+00:00", "model": MODEL, "model_id": MODEL}
        first |= {"status": 200, "seconds": 1.5, "first_token_seconds": 0.25, "later": 1}
        first |= {"prompt_tokens": 1200, "completion_tokens": 7, "surface": "/v1/completions"}
        failed = {"at": "2030-01-02T03:04:05+00:00", "model": "nope", "model_id": None}
        failed |= {"status": 404, "code": "model_not_found", "surface": "/v1/completions"}
        told = [failed] if "errors" in self.query else [first, failed]
        self.send({"log": "facts", "requests": told, "next_before": None, "missing": 0})

    def GET_config_sources(self) -> None:
        port = {"value": 8050, "source": "file", "place": "/pool.yaml", "live": False}
        grace = {"value": 5, "source": "runtime", "place": "PATCH /config", "live": True}
        quiet = {"value": None, "source": "default", "place": "", "live": True, "default": None}
        keys = {"quiet": quiet, "port": port, "grace_minutes": grace | {"after_restart": 3}}
        self.send({"file": "/pool.yaml", "keys": keys})

    def GET_requests_1(self) -> None:
        said = {"headers": {"accept": "*/*"}, "body": "{}", "size_bytes": 2, "is_whole": True}
        cut = {"headers": {}, "body": "\x1b[2Jan", "size_bytes": 6, "is_whole": False}
        content = {"method": "POST", "target": "/v1/x", "request": said, "answer": cut}
        self.send({"number": 1, "status": 200, "content": content | {"curl": "curl x"}})

    def GET_requests_2(self) -> None:
        self.send({"number": 2, "status": 200, "content": None})

    def GET_requests_capture(self) -> None:
        self.send({"on": False, "captured": 2, "max_minutes": 60})

    def POST_requests_capture(self) -> None:
        self.send({"on": True, "seconds_left": 60 * self.body["minutes"], **self.body})

    def DELETE_requests_capture(self) -> None:
        self.send({"on": False, "captured": 0})

    def GET_usage(self) -> None:
        used = {"requests": 3, "errors": 1, "prompt_tokens": 1200, "cached_tokens": 0}
        used |= {"completion_tokens": 70, "cost": 0.25, "currency": "USD"}
        if self.query.get("format") == "csv":
            self.stream("text/csv")("model,requests\n" + MODEL + ",3\n")
            return
        rows = [{"model": MODEL, "day": "2030-01-02", **used}] * 2
        by = self.query["by"].split(",")
        self.send({"by": by, "rows": rows, "totals": [used | {"requests": 6}], "later": 1})

    def POST_config_reload(self) -> None:
        models = {"added": ["new"], "updated": [], "removed": []}
        changes = {"changed": {"grace_minutes": 3}, "needs_restart": {"port": 8060}}
        self.send({"file": "/pool.yaml", **changes, "models": models})

    def POST_restart(self) -> None:
        self.server.run = "after"
        worker = {"model_id": MODEL, "state": "HOT", "port": 8051, "worker_pid": 7}
        self.server.models[MODEL]["replicas"] = [worker]
        left = [worker, worker | {"model_id": "gone", "worker_pid": 8}]
        left = left if self.server.is_worker_lost else [worker]
        self.send({"run": "before", "wait_seconds": 0, "workers": left}, 202)

    def GET_health(self) -> None:
        figures = {"active_models": 0, "total_models": 1, "total_memory_mb": 0}
        run = self.server.run
        self.send({"status": "healthy", "available_ports": 49, "run": run, **figures})

    def GET_statistics(self) -> None:
        self.send({"total_requests": 3})

    def GET_metrics(self) -> None:
        self.send("modelpool_models 1\n")

    def GET_engines(self) -> None:
        hint = "pip install 'modelpool[llama]'"
        no = {"name": "llama.cpp", "usable": False, "reason": "not installed", "install_hint": hint}
        yes = {"name": "fake", "usable": True, "formats": ["none"]}
        self.send({"engines": [yes, no], "environments": []})

    def GET_devices(self) -> None:
        gpu = {"id": "cuda:0", "name": "Made Up", "total_bytes": 24 * 10**9, "free_bytes": 10**10}
        hint = {"name": "amd", "reason": "no driver answers", "hint": "install amdgpu"}
        gpu |= {"ours_bytes": 0, "others_bytes": 14 * 10**9, "budget_bytes": None}
        self.send({"devices": [gpu], "vendors": [hint], "budgets_mb": {"cuda:7": 5}})

    def GET_config(self) -> None:
        self.send(self.server.settings)

    def PATCH_config(self) -> None:
        unknown = set(self.body) - set(self.server.settings)
        if unknown:
            raise errors.InvalidRequest(f"no key {unknown}", param=unknown.pop())
        self.server.settings |= self.body
        self.send({"changed": self.body, "config": self.server.settings})

    def GET_registry(self) -> None:
        self.send({"models": [{"model_id": MODEL, "tags": ["small"]}]})

    def POST_registry(self) -> None:
        assert set(self.body) == {"models", "replace"}
        ids = [m["model_id"] for m in self.body["models"]]
        self.send({"added": ids, "updated": [], "deleted": []})

    def GET_events(self) -> None:
        last = self.headers.get("last-event-id")
        self.server.last_event_ids.append(last)
        write = self.stream("text/event-stream")
        write(": ping\n\n")
        # One a connection: whoever wants them all has to resume.
        for event in self.server.events[int(last or 0) :][:1]:
            write(f"id: {event['id']}\nevent: {event['event']}\ndata: {json.dumps(event)}\n\n")

    # -- inference

    def POST_v1_chat_completions(self) -> None:
        said = self.body["messages"][-1]["content"]
        if not self.body["stream"]:
            message = {"role": "assistant", "content": f"you said {said}"}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            return self.send(completion([choice]))
        write = self.stream("text/event-stream")
        write(": waiting\n\n")
        for piece in ("you ", "said ", said):
            write(f"data: {json.dumps({'choices': [{'delta': {'content': piece}}]})}\n\n")
        if self.server.cut_stream:
            return None
        write(f"data: {json.dumps({'choices': [{'delta': {}, 'finish_reason': 'stop'}]})}\n\n")
        return write("data: [DONE]\n\n")

    def POST_v1_completions(self) -> None:
        text = self.body["prompt"] + " and so on"
        self.send(completion([{"index": 0, "text": text, "finish_reason": "length"}]))

    def GET_v1_models(self) -> None:
        self.send({"object": "list", "data": [{"id": MODEL, "object": "model"}]})


def completion(choices: list[dict[str, Any]]) -> dict[str, Any]:
    head = {"id": "x", "object": "chat.completion", "created": 1, "model": MODEL}
    return head | {"choices": choices, "usage": {"total_tokens": 5}}


@pytest.fixture
def fake() -> Iterator[FakePool]:
    pool = FakePool()
    thread = threading.Thread(target=pool.serve_forever, args=(0.02,))
    thread.start()
    yield pool
    pool.shutdown()
    thread.join()
    pool.server_close()
