"""Write the pages that are made from the code: docs/config.md, docs/api.md, docs/parameters.md,
docs/cli.md, and the tables in docs/lifecycle.md and docs/mcp.md.

usage: gen_docs.py [--check]      --check writes nothing and fails when a page is out of date
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import click
import typer
from modelpool.app import management_api
from modelpool.config import LIVE_KEYS, json_schema
from modelpool.config_synonyms import BORROWED, NOT_READ, SYNONYMS, WITHOUT_EFFECT
from modelpool.mcp_server.tools import TOOLS
from modelpool.pool.decide.table import markdown
from modelpool.pool.states import MEANING, TRANSITIONS, State, Trigger
from modelpool_client.cli import app as poolctl
from modelpool_client.surfaces.contract import Contract
from modelpool_client.surfaces.families import FAMILIES
from modelpool_client.surfaces.parameter_rules import BASE, UNKNOWN, Disposition, Rule
from modelpool_client.surfaces.parameters import Support
from modelpool_client.surfaces.routes import SPELLINGS, SURFACES
from modelpool_worker import engines
from modelpool_worker.surfaces.openapi import describe as describe_worker

ROOT = Path(__file__).parent.parent
MADE = "<!-- Made by scripts/gen_docs.py; change the code, not this page. -->"


def config_page() -> Iterator[str]:
    """Every key with its default, whether it can change while the pool runs, and its meaning."""
    yield "# Configuration"
    yield MADE
    yield (
        "YAML or JSON, named by `--config` or `MODELPOOL_CONFIG`; `configs/pool.yaml` is what `make"
        " up` uses, `configs/pool.example.yaml` has every key. Each key is also an environment"
        " variable, `MODELPOOL_` and the key in capitals (`MODELPOOL_PORT_RANGE__START` for a key"
        " inside a key), which wins over the file. Keys and variables of other programs are"
        " [understood](#keys-of-other-programs), too. All errors are reported at once, each with"
        " key and place; a"
        " model's options are held against its engine, whose process is asked at the start, at a"
        " reload, a registration and an import. What may still come right (a file that is not"
        " there, an engine that is not installed) is a `config-warning` or `model-warning` event.\n"
    )
    yield (
        "In the file's values, wherever they stand, `${NAME}` is the environment variable `NAME`;"
        " one that is not set is an error, unless there is a default, `${NAME:-default}`, which"
        " also counts for an empty one. `$${` is a literal `${`. Where a number or a truth value"
        " is wanted the text is read as one. In YAML's braces and brackets it needs quotes:"
        ' `{start: "${FIRST}", end: 8099}`. A value from a variable is never shown: `GET /config`,'
        " `GET /config/file`, `GET /models`, errors and events have the file's own text, and so"
        " has the database. What it does is seen, of course: the port that is listened on, a"
        " model's name, the path of a model file that an error is about. Keys are not filled in,"
        " nor are entries that are registered or imported. A reload reads the file anew; a"
        " process keeps the environment that it was started with.\n"
    )
    yield "| key | default | live | meaning |\n|---|---|---|---|"
    for key, schema in json_schema()["properties"].items():
        live = "yes" if key in LIVE_KEYS else ""
        yield f"| `{key}` | {_default(schema)} | {live} | {schema.get('description', '')} |"
    yield (
        "\n*live*: `PATCH /config` (`poolctl config set KEY=VALUE`) changes it until the restart, a"
        " change of the file counts after `poolctl config reload`; the others need"
        " `poolctl restart`."
    )
    yield "\n## Keys of other programs"
    yield (
        "A config file may have these as they stand in theirs, all of them inside `model_system`"
        " or not. What has no effect is accepted, so that such a file starts a pool; each that is"
        " not ours by our name is remarked upon at the start and at a reload. Durations may be"
        " numbers of seconds or have a unit: `500ms`, `30s`, `5m`, `1h`. Two names of one key that"
        " say different things are an error. Entries of models have"
        " their own [synonyms](operations.md#registry-files).\n"
    )
    yield "| key in a file | here |\n|---|---|"
    for path, synonym in SYNONYMS.items():
        here = f"no effect: {synonym.why_not}" if synonym.why_not else f"`{synonym.key}`"
        yield f"| `{path}` | {here}{' (GB)' if path.endswith('_gb') else ''} |"
    yield "\n| variable | here |\n|---|---|"
    for name, key in BORROWED.items():
        yield f"| `{name}` | `{key}` |"
    for name, why in WITHOUT_EFFECT.items():
        yield f"| `{name}` | no effect: {why} |"
    names = ", ".join(f"`{name}`" for name in NOT_READ)
    yield f"| {names} | not read by themselves; `${{NAME}}` in a value reads any |"


def _default(schema: dict[str, Any]) -> str:
    return f"`{json.dumps(schema['default'])}`" if "default" in schema else "computed"


def api_page() -> Iterator[str]:
    """Every route of manager and worker, from their OpenAPI descriptions."""
    yield "# HTTP API"
    yield MADE
    yield (
        'Bodies are JSON. Errors have one shape, `{"error": {message, type, param, code, source}}`,'
        " which the routes of Anthropic's and Ollama's APIs tell in their own; code and source are"
        " also in the headers `x-modelpool-code` and `x-modelpool-source`; source says who failed:"
        " `pool`, `worker`, `engine`, `upstream`. `param` names the parameter. Try it at `/docs`;"
        " the machine-readable form is `/openapi.json`, which names for every operation the errors"
        " that it may answer with, their codes, headers and shape, and the shape of its answers.\n"
    )
    yield "## Manager, port 8050"
    yield from _routes(management_api(MagicMock()).openapi())
    yield "\n## Worker, ports 8051 to 8099"
    yield "The routes that models answer depend on the engine and on what the model is for.\n"
    yield from _routes(describe_worker("MODEL", (), tuple(SURFACES)))
    yield "\n## What models answer"
    yield (
        "The same on a worker's port and on 8050, where a cold model is loaded first. *needs*: the"
        " model's capabilities, any of them. *asked of the engine*: at which of its own routes,"
        " where it is translated.\n"
    )
    yield "| route | API | needs | asked of the engine |\n|---|---|---|---|"
    for path, surface in SURFACES.items():
        method = surface.methods[0]
        needs = ", ".join(sorted(surface.needs))
        told = ", ".join(f"`{path}`" for path in surface.engine_paths)
        yield f"| `{method} {path}` | {surface.family} | {needs} | {told} |"
    spelled = ", ".join(f"`{other}` is `{path}`" for other, path in SPELLINGS.items())
    yield f"\nOther spellings: {spelled}."
    yield "\n`GET /v1/ws` carries chat completions over a [WebSocket](websocket.md)."


def _routes(description: dict[str, Any]) -> Iterator[str]:
    yield "| route | parameters | what |\n|---|---|---|"
    for path, operations in sorted(description["paths"].items()):
        for method, operation in operations.items():
            text = operation.get("description") or operation.get("summary") or "-"
            text = text.splitlines()[0].replace("``", "`")
            names = ", ".join(_parameters(operation, description))
            yield f"| `{method.upper()} {path}` | {names} | {text} |"


def _parameters(operation: dict[str, Any], description: dict[str, Any]) -> Iterator[str]:
    for parameter in operation.get("parameters", []):
        if parameter["in"] != "path":
            yield f"`{'?' if parameter['in'] == 'query' else ''}{parameter['name']}`"
    content = operation.get("requestBody", {}).get("content", {})
    schema = content.get("application/json", {}).get("schema", {})
    for name in _resolved(schema, description).get("properties", {}):
        yield f"`{name}`"


def _resolved(schema: dict[str, Any], description: dict[str, Any]) -> dict[str, Any]:
    options = [s for s in schema.get("anyOf", [schema]) if s.get("type") != "null"]
    found = options[0]
    if "$ref" in found:
        name = found["$ref"].rpartition("/")[2]
        return dict(description["components"]["schemas"][name])
    return found


def parameters_page() -> Iterator[str]:
    """What becomes of every parameter, for each surface and engine."""
    yield "# Parameters of requests"
    yield MADE
    yield (
        "Nothing is dropped without a word. A parameter is *honoured*; or *refused*, with a 400"
        " that names it; or *ignored*, and then the header `X-ModelPool-Ignored` of the answer"
        " names it. A value that asks for nothing but what happens anyway (`n: 1`, `store: false`,"
        " null) is none of these. What an engine honours a model may lack: `tools` and"
        " `reasoning_effort` need a place in its chat template, `suffix` needs its tokens to fill"
        " in the middle. Whatever stands in no table is ignored and named. What another API says is"
        " told to engines in OpenAI's words, and becomes what becomes of these; errors and the"
        " header name it as its API does. An engine is listed where it may answer.\n"
    )
    yield (
        "Put right on the way: empty stop strings are dropped; a tool call in the history without"
        " arguments has `{}`, one without a type is that of a function; `max_tokens` may be any"
        " number, an answer ends where the context"
        " does. `tool_choice` that wants a call is held to by a JSON schema, whatever the chat"
        " template; `any` is Mistral's word for `required`. Tools that OpenAI or Anthropic run"
        " themselves (`web_search`, …) are ignored beside the client's own, and named; alone they"
        " are refused. A body may come with `Content-Encoding: gzip` or `deflate`.\n"
    )
    known = {name: engines.get(name).honours for name in sorted(engines.BUILT_IN)}
    # Those that choose, or are llama.cpp in another form, honour what llama.cpp does.
    same = {name for name, h in known.items() if h is known["llama.cpp"]} - {"llama.cpp"}
    supports = {n: Support(h) for n, h in known.items() if h is not None and n not in same}
    yield from _counts(supports)
    yield "\n## Relayed as they are"
    native = ", ".join(f"`{p}`" for p, s in SURFACES.items() if s.is_work and not _has_rules(p))
    yield f"The bodies of these go to the engine as they come, which knows its own: {native}."
    for path in _with_rules():
        yield from _parameter_table(path, supports)


def _serving(path: str, supports: dict[str, Support]) -> dict[str, Support]:
    """Those of engines that may answer it."""
    surface = SURFACES[path]
    return {n: s for n, s in supports.items() if surface.is_answered(engines.get(n).surfaces)}


def _contract(path: str) -> Contract:
    return FAMILIES[SURFACES[path].family].describe().routes[path]


def _has_rules(path: str) -> bool:
    return _contract(path).rules is not None


def _with_rules() -> list[str]:
    return [path for path in SURFACES if _has_rules(path)]


def _dispositions(path: str, support: Support) -> dict[str, Rule]:
    """Of every parameter, with an engine of that support."""
    if path in BASE:
        return {name: support.rule(path, name) for name in support.names(path)}
    return {name: support.of(rule) for name, rule in (_contract(path).rules or {}).items()}


def _counts(supports: dict[str, Support]) -> Iterator[str]:
    yield "| surface | engine | honoured | refused | ignored |\n|---|---|---|---|---|"
    for path in _with_rules():
        for name, support in _serving(path, supports).items():
            rules = _dispositions(path, support).values()
            numbers = " | ".join(str(sum(r.how is how for r in rules)) for how in Disposition)
            yield f"| `{path}` | {name} | {numbers} |"


def _parameter_table(path: str, supports: dict[str, Support]) -> Iterator[str]:
    supports = _serving(path, supports)
    yield f"\n## `{path}`\n| parameter | {' | '.join(supports)} | |"
    yield f"|---|{'---|' * len(supports)}---|"
    tables = [_dispositions(path, support) for support in supports.values()]
    for known in dict.fromkeys(name for table in tables for name in table):
        rules = [table.get(known, UNKNOWN) for table in tables]
        why = next((rule.why for rule in rules if rule.how is not Disposition.HONOURED), "")
        why = why or rules[0].why
        yield f"| `{known}` | {' | '.join(rule.how for rule in rules)} | {why} |"


def cli_page() -> Iterator[str]:
    """The help of every poolctl command."""
    yield "# poolctl"
    yield MADE
    command = typer.main.get_command(poolctl)
    yield from _help(command, click.Context(command, info_name="poolctl"), 2)


def _help(command: Any, context: click.Context, level: int) -> Iterator[str]:
    yield f"{'#' * level} `{context.command_path}`"
    yield f"```\n{_plain(command, context)}\n```"
    if hasattr(command, "list_commands"):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from _help(inner, click.Context(inner, context, info_name=name), 3)


def _plain(command: Any, context: click.Context) -> str:
    formatter = click.HelpFormatter(width=90)
    click.Command.format_usage(command, context, formatter)
    click.Command.format_help_text(command, context, formatter)
    click.Command.format_options(command, context, formatter)
    if hasattr(command, "list_commands"):
        commands = [(n, command.get_command(context, n)) for n in command.list_commands(context)]
        with formatter.section("Commands"):
            formatter.write_dl([(n, c.get_short_help_str(60)) for n, c in commands])
    click.Command.format_epilog(command, context, formatter)
    return formatter.getvalue().rstrip()


def transitions() -> Iterator[str]:
    """What moves a replica from one state to another."""
    yield "| from | trigger | to | when |\n|---|---|---|---|"
    merged: dict[tuple[Trigger, State], list[State]] = {}
    for (state, trigger), to in TRANSITIONS.items():
        merged.setdefault((trigger, to), []).append(state)
    for (trigger, to), states in merged.items():
        yield f"| {', '.join(states)} | {trigger.value} | {to} | {MEANING[trigger]} |"


def tools() -> Iterator[str]:
    """What MCP clients can call, and what each takes and makes."""
    yield "| tool | what it does | changes | takes | makes |\n|---|---|---|---|---|"
    for tool in TOOLS.values():
        takes = _fields(tool.input_schema, tool.input_schema.get("required", ()))
        makes = _fields(tool.output_schema)
        changes = (
            "nothing"
            if tool.is_read_only
            else "ends work"
            if tool.is_destructive
            else "loads"
            if tool.may_load
            else "begins a job"
        )
        yield f"| `{tool.name}` | {tool.description} | {changes} | {takes} | {makes} |"


def _fields(schema: dict[str, Any], bold: Collection[str] = ()) -> str:
    names = schema.get("properties", ())
    return ", ".join(f"**`{name}`**" if name in bold else f"`{name}`" for name in names)


def lifecycle_page() -> Iterator[str]:
    """What people wrote, with the tables made anew."""
    yield _with_tables("lifecycle.md", transitions=transitions, decisions=markdown)


def mcp_page() -> Iterator[str]:
    """The same, with the table of tools."""
    yield _with_tables("mcp.md", tools=tools)


def _with_tables(page: str, **tables: Callable[[], Iterable[str]]) -> str:
    text = (ROOT / "docs" / page).read_text().removesuffix("\n")
    for name, make in tables.items():
        begin, end = f"<!-- {name}: made by scripts/gen_docs.py -->", f"<!-- end of {name} -->"
        before, found, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if not (found and closed):
            raise SystemExit(f"docs/{page} has no place for the {name}")
        text = f"{before}{begin}\n{chr(10).join(make())}\n{end}{after}"
    return text


PAGES = {
    "config.md": config_page,
    "api.md": api_page,
    "parameters.md": parameters_page,
    "cli.md": cli_page,
    "lifecycle.md": lifecycle_page,
    "mcp.md": mcp_page,
}


def main(arguments: list[str]) -> int:
    """Write the pages, or with ``--check`` name those that are out of date."""
    stale = []
    for name, make in PAGES.items():
        path = ROOT / "docs" / name
        text = "\n".join(make()) + "\n"
        if not path.exists() or path.read_text() != text:
            stale.append(name)
            if "--check" not in arguments:
                path.write_text(text)
    if stale and "--check" in arguments:
        print(f"out of date: {', '.join(stale)}; run scripts/gen_docs.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
