"""``modelpool serve`` in the foreground; ``up``, ``restart``, ``down`` in the background."""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from modelpool_client.errors import ModelPoolError

if TYPE_CHECKING:
    from modelpool.config import PoolConfig
    from modelpool.describing import Describer

app = typer.Typer(help="A machine as a pool of models.", no_args_is_help=True, add_completion=False)

Config = Annotated[
    Path | None,
    typer.Option("--config", "-c", envvar="MODELPOOL_CONFIG", help="YAML or JSON file"),
]


@app.command()
def serve(config: Config = None) -> None:
    """Run the pool in the foreground, for service managers and containers; TERM ends it."""
    from modelpool.init_process import fork_if_init

    fork_if_init()
    from modelpool.describing import KEEP_SECONDS, WORKER, Describer

    describer = Describer(WORKER, KEEP_SECONDS)
    settings = _checked(config, "modelpool.server", describer)
    from modelpool_client.http1.logs import set_up
    from modelpool_client.log_file import LogOutput

    from modelpool.server import run

    set_up(
        LogOutput(str(settings.log_file), settings.log_limits),
        settings.log_level.upper(),
        settings.log_format,
        "%(asctime)s %(levelname)-7s %(name)s: %(message)s",
    )
    run(settings, describer=describer)


@app.command()
def up(config: Config = None) -> None:
    """Start the pool in the background and wait until its warm-up models are HOT."""
    settings = _checked(config, "modelpool.daemon")
    from modelpool.daemon import start

    start(settings, config)


@app.command()
def down(config: Config = None) -> None:
    """Stop the pool that ``up`` started; its workers end their work first."""
    from modelpool.config import STOP_KEYS, load_config
    from modelpool.daemon import stop

    stop(load_config(config, only=STOP_KEYS))


@app.command()
def registry(
    port: Annotated[int, typer.Option(min=1, max=65_535, help="where it listens")] = 6121,
) -> None:
    """Run a small service registry on loopback, to try a registrar of kind http with."""
    from modelpool.registrars.server import run

    run(port)


@app.command()
def check(
    config: Config = None,
    is_json: Annotated[bool, typer.Option("--json", help="for programs")] = False,
) -> None:
    """Check a configuration and start nothing; 1 where it is wrong."""
    settings = _checked(config, "modelpool.server")
    if is_json:
        facts = {
            "file": str(config.absolute()) if config else None,
            "url": f"http://{settings.host}:{settings.port}",
            "log_file": str(settings.log_file),
            "graceful_shutdown_seconds": settings.graceful_shutdown_seconds,
            "warnings": list(settings.warnings),
        }
        print(json.dumps(facts))
        return
    for warning in settings.warnings:
        print(f"warning: {warning}")
    print(f"{config or 'the configuration'} is right")


@app.command(hidden=True)
def convert(
    program: str,
    path: Annotated[Path | None, typer.Argument()] = None,
) -> None:
    """Print the settings of another program as ours, as JSON: what `poolctl import` shows."""
    from modelpool.converters.run import convert

    print(json.dumps(convert(program, path, os.environ)))


@app.command()
def restart(config: Config = None) -> None:
    """Replace the manager by a fresh one; its workers go on and are adopted (1: one is lost)."""
    from modelpool.config import STOP_KEYS, load_config
    from modelpool.daemon import restart

    if not restart(load_config(config, only=STOP_KEYS)):
        raise typer.Exit(1)


def _checked(file: Path | None, needed: str, describer: Describer | None = None) -> PoolConfig:
    """The configuration, held against the engines while ``needed`` is imported."""
    with _nothing_collected():
        from modelpool.config import load_config
        from modelpool.engines import check_models

        with ThreadPoolExecutor(1) as beside:
            check = partial(check_models, describer=describer)
            loading = beside.submit(load_config, file, check=check)
            importlib.import_module(needed)
            return loading.result()


@contextmanager
def _nothing_collected() -> Iterator[None]:
    """What is imported stays: to look for garbage in it takes a tenth of the time of the imports,
    and later a part of every full collection."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def main() -> None:
    """The ``modelpool`` command."""
    try:
        app()
    except ImportError as e:
        sys.exit(
            f"modelpool: {e.name} is missing; install the server: pip install 'modelpool[server]'"
        )
    except ModelPoolError as e:
        sys.exit(f"modelpool: {e.message}")


if __name__ == "__main__":
    main()
