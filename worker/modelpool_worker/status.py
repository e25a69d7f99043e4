"""What engines tell their fronts while they load."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from modelpool_client.wire_base import encode

from .sleep import Sleep


class Status:
    """What an engine tells its front, event by event."""

    def __init__(self, tell: Callable[[dict[str, Any]], None]) -> None:
        self._tell = tell

    def begins(
        self, honours: Mapping[str, Collection[str]] | None, stop_seconds: float | None = None
    ) -> None:
        """The load begins, of an engine that honours these parameters, for each path; None: it is
        not known. ``stop_seconds``: see ``Engine.stop_seconds``."""
        known = honours and {path: sorted(names) for path, names in honours.items()}
        self._write(event="begins", honours=known, stop_seconds=stop_seconds)

    def runs(self, text: str) -> None:
        """What computes, where the engine's name alone does not say it, and why that."""
        self._write(event="runs", text=text)

    def progress(
        self,
        stage: str,
        fraction: float | None = None,
        *,
        bytes_done: int | None = None,
        bytes_total: int | None = None,
        eta_seconds: float | None = None,
        estimated: bool = False,
    ) -> None:
        """How far the load is: ``fraction`` from 0 to 1, as the engine itself knows it, unless it
        is ``estimated``."""
        self._write(
            event="progress",
            stage=stage,
            fraction=fraction,
            bytes_done=bytes_done,
            bytes_total=bytes_total,
            eta_seconds=eta_seconds,
            estimated=estimated or None,
        )

    def ready(
        self,
        context_length: int | None = None,
        chat_error: str | None = None,
        *,
        slots: int | None = None,
        serves: Sequence[str] = (),
        stops_plain: bool = False,
        saves_prompts: bool = False,
        unable: Mapping[str, str] | None = None,
        has_metrics: bool = False,
        address: tuple[str, int] | str | None = None,
        model_name: str = "",
        headers: Mapping[str, str] | None = None,
        paths: Mapping[str, str] | None = None,
        sleep: Sleep | None = None,
        heeds_priority: bool = False,
        adapters: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        """The unix socket answers from now on, or whoever listens at ``address``.

        Args:
            context_length: in tokens, for one request.
            chat_error: what is wrong with the chat template, if chats are to be refused.
            slots: how many requests it works on at once, more wait in it; 0: any number, None: not
                known, so that the pool finds out what serves best.
            serves: paths of ``surfaces.routes.SURFACES`` that it answers for this model; none: chat
                and text completions.
            stops_plain: a client that leaves ends the work for it, whatever it asked for. Where
                only streams do that, the engine is never asked for anything else.
            saves_prompts: ``Engine.save_prompts`` is worth its time at the end.
            unable: parameters that ``Engine.honours`` names and this model cannot have, with why.
            has_metrics: ``GET /metrics`` there gives Prometheus text, for the worker's own page.
            address: host and port, or the path of a unix socket; None: the job's socket.
            model_name: what requests are to call the model there; empty: as clients do.
            headers: of every request.
            paths: which of ``serves`` are called otherwise there.
            sleep: how it lets go of device memory and takes it again; None: it cannot.
            heeds_priority: it is told ``X-Priority``, and goes by it.
            adapters: ``name`` and ``scale`` of the LoRA adapters that a request may scale by
                llama.cpp's ``lora``, by their ids; None: it has no such parameter.
        """
        self._write(
            event="ready",
            context_length=context_length,
            chat_error=chat_error,
            slots=slots,
            serves=list(serves) or None,
            stops_plain=stops_plain or None,
            saves_prompts=saves_prompts or None,
            unable=unable or None,
            has_metrics=has_metrics or None,
            address=address,
            model_name=model_name or None,
            headers=headers or None,
            paths=paths or None,
            sleep=encode(sleep) if sleep is not None else None,
            heeds_priority=heeds_priority or None,
            adapters=None if adapters is None else list(adapters),
        )

    def failed(self, code: str, message: str) -> None:
        """The load failed: a code of ``errors.LOAD_CODES`` or ``load_failed``, and why."""
        self._write(event="failed", code=code, message=message)

    def _write(self, **event: Any) -> None:
        self._tell({key: value for key, value in event.items() if value is not None})
