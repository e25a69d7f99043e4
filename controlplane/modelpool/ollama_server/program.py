"""The process that asks servers of Ollama about models: ``python -m
modelpool.ollama_server.program``. It blocks as it likes; see ``jobs.process``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx
from modelpool_client.errors import BadGateway, NotFound, NotSupported, Unavailable

from modelpool.jobs import child

from .entries import description
from .progress import PullProgress

LOOK_SECONDS = 10.0
# A pull says nothing while it checks what it has fetched.
SILENCE_SECONDS = 600.0
HINT = "the package ollama is not installed: pip install 'modelpool[ollama]'"


def find(request: Mapping[str, Any], tell: child.Tell) -> list[dict[str, Any]]:
    """What each of the servers has: ``name``, ``models`` as ``description`` has them, and
    ``error``, which is empty where that is all of them. Those that are known, by name and digest,
    are not asked about."""
    known = {(name, digest) for name, digest in request["known"]}
    return [_found_at(server, known) for server in request["servers"]]


def pull(request: Mapping[str, Any], tell: child.Tell) -> dict[str, Any]:
    """Have the servers pull a model, one after the other; then what it is.

    Raises:
        ModelPoolError: one of them does not.
    """
    name, servers = request["name"], request["servers"]
    for number, server in enumerate(servers, 1):
        where = server["name"]
        shown = f"{where} ({number} of {len(servers)})" if len(servers) > 1 else ""
        progress = PullProgress(shown)
        with _asking(server, name, SILENCE_SECONDS) as client:
            for said in client.pull(name, stream=True):
                if told := progress.take(said.model_dump(exclude_none=True)):
                    tell({"progress": told})
        if not progress.is_done:
            raise BadGateway(f"{where} ended the pull of {name} early: pull it again to go on")
        tell({"log": f"{where} has {name}"})
    with _asking(servers[0], name, LOOK_SECONDS) as client:
        for listed in client.list().models:
            if listed.model in (name, f"{name}:latest"):
                return _described(client, listed)
    raise BadGateway(f"{servers[0]['name']} has pulled {name} and does not list it")


TASKS: Mapping[str, Callable[[Mapping[str, Any], child.Tell], Any]] = {"find": find, "pull": pull}


def _found_at(server: Mapping[str, str], known: set[tuple[str, str]]) -> dict[str, Any]:
    models: list[dict[str, Any]] = []
    try:
        with _asking(server, "", LOOK_SECONDS) as client:
            for listed in client.list().models:
                if (listed.model, listed.digest or "") in known:
                    models.append({"name": listed.model, "digest": listed.digest or ""})
                else:
                    models.append(_described(client, listed))
    except (BadGateway, NotFound, Unavailable) as e:
        return {"name": server["name"], "models": models, "error": e.message}
    return {"name": server["name"], "models": models, "error": ""}


def _described(client: Any, listed: Any) -> dict[str, Any]:
    shown = client.show(listed.model)
    return description(
        listed.model_dump(mode="json", exclude_none=True),
        shown.model_dump(mode="json", exclude_none=True),
    )


@contextmanager
def _asking(server: Mapping[str, str], name: str, seconds: float) -> Iterator[Any]:
    """A client of the package, whose errors are ours."""
    try:
        import ollama
    except ImportError as e:
        raise NotSupported(HINT, code="missing_dependency") from e
    client = ollama.Client(server["url"], timeout=seconds, trust_env=False)
    try:
        yield client
    except ollama.ResponseError as e:
        text = f"{server['name']}: {e.error}"
        if e.status_code == 404 or "file does not exist" in text:
            hint = f"; there is no {name!r} to be pulled" if name else ""
            raise NotFound(f"{text}{hint}", code="no_model") from None
        raise BadGateway(text, source="upstream") from None
    except (ConnectionError, httpx.HTTPError, ValueError) as e:
        text = f"{server['name']} does not answer as Ollama does: {e}"
        raise Unavailable(text, source="upstream", code="unreachable") from None
    finally:
        client.close()  # type: ignore[no-untyped-call]


def main() -> None:
    """One request, see ``TASKS``."""
    child.main(lambda request, tell: TASKS[request["task"]](request, tell))


if __name__ == "__main__":
    main()
