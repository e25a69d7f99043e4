"""What engines of servers elsewhere have in common that are asked with a key."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from modelpool_client import __version__
from modelpool_client.http1.message import Headers

from modelpool_worker.engine import EngineJob, RemoteEngine, Usable

from .keys import Key
from .options import SECONDS, check_common, headers_of, variables_of
from .server import Server


class ProviderEngine(RemoteEngine):
    """Needs nothing on this machine. Its source is the model's name there."""

    formats = ("none",)

    def probe(self) -> Usable:
        return Usable(True, version=__version__)

    def memory_bytes(self, source: str, options: Mapping[str, Any]) -> int | None:
        return 0

    def check_each(self, options: Mapping[str, Any]) -> None:
        super().check_each(options)
        check_common(options)


def server_of(
    job: EngineJob,
    environment: Mapping[str, str],
    base_url: str,
    variables: Sequence[str],
    key_header: Callable[[str], Headers],
    prefix: str | None = None,
) -> Server:
    """The server that a job's options name.

    Args:
        base_url: where its API begins.
        variables: of the environment, any of which may hold the key where no option says which.
        key_header: how the key is shown.
        prefix: see ``Server``.

    Raises:
        LoadFailed: a file or a variable that they name is of no use (``bad_config``).
    """
    options = job.options
    return Server(
        job.model_id,
        base_url,
        Key(environment, variables_of(options, variables), options.get("api_key_file", "")),
        seconds=options.get("request_timeout_seconds", SECONDS),
        ca_file=options.get("ca_file", ""),
        headers=headers_of(options),
        key_header=key_header,
        prefix=prefix,
    )
