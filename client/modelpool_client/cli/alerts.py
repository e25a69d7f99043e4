"""Commands on alerts: what is wrong now, silences, and whether messages arrive."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from modelpool_client import _calls as calls
from modelpool_client.cli import render
from modelpool_client.cli.session import refuse, session
from modelpool_client.reports import AlertReport, AlertView, SilenceView

AlertName = Annotated[
    str | None,
    typer.Argument(metavar="ALERT", help="Its name, or a pattern: 'Slow*'; * is any."),
]
SilenceId = Annotated[str, typer.Argument(metavar="ID", help="As the list shows it.")]
UNITS = {"s": 1 / 60, "m": 1.0, "h": 60.0, "d": 1440.0}


def add_to(app: typer.Typer) -> None:
    """Add these commands to the app."""
    alerts = typer.Typer(help="What is wrong now, and who is told of it.")
    alerts.callback(invoke_without_command=True)(default)
    for name, command in (
        ("list", list_),
        ("rules", rules),
        ("silence", silence),
        ("unsilence", unsilence),
        ("test", try_targets),
    ):
        alerts.command(name)(command)
    app.add_typer(alerts, name="alerts")


def default(ctx: typer.Context) -> None:
    """What is wrong now, and who is told of it; by itself as list."""
    if ctx.invoked_subcommand is None:
        list_(ctx)


def list_(ctx: typer.Context) -> None:
    """List alerts that fire, are pending or were resolved lately, and silences."""
    s, call = session(ctx), calls.alerts()
    with s.client() as pool:
        document = pool.fetch(call)
    s.show(document, lambda: _alerts(call.parse(document)))


def rules(ctx: typer.Context) -> None:
    """List the rules that are evaluated, and the targets that are told."""
    s, call = session(ctx), calls.alerts()
    with s.client() as pool:
        document = pool.fetch(call)
    s.show(document, lambda: _rules(call.parse(document)))


def silence(
    ctx: typer.Context,
    alert: AlertName = None,
    duration: Annotated[
        str, typer.Option("--for", help="How long, as 30m, 2h or 1d; minutes without a unit.")
    ] = "2h",
    until: Annotated[
        str | None, typer.Option(help="A time as ISO 8601, in UTC, in place of --for.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Only of this one, or a pattern.")] = None,
    severity: Annotated[str | None, typer.Option(help="Only info, warning or critical.")] = None,
    comment: Annotated[str, typer.Option(help="Why, for others.")] = "",
) -> None:
    """Have nobody told of some alerts for a while; they are evaluated and shown all the same."""
    found = {"alertname": alert, "model": model, "severity": severity}
    matchers = {name: value for name, value in found.items() if value is not None}
    minutes = None if until is not None else minutes_of(duration)
    call = calls.silence_alerts(matchers, minutes, until, comment)
    s = session(ctx)
    with s.client() as pool:
        document = pool.fetch(call)
    s.show(document, lambda: f"silenced: {_silence_line(call.parse(document))}")


def unsilence(ctx: typer.Context, silence_id: SilenceId) -> None:
    """End a silence before its time."""
    s, call = session(ctx), calls.end_silence(silence_id)
    with s.client() as pool:
        document = pool.fetch(call)
    s.show(document, lambda: f"ended: {_silence_line(call.parse(document))}")


def try_targets(
    ctx: typer.Context,
    target: Annotated[
        str | None, typer.Argument(metavar="TARGET", help="One of the config file; none: all.")
    ] = None,
) -> None:
    """Send a test message to the targets, and say whether it arrives."""
    s, call = session(ctx), calls.try_alert_targets(target)
    with s.client() as pool:
        document = pool.fetch(call)
    problems = call.parse(document)
    s.show(document, lambda: _tested(problems))
    if any(problems.values()):
        raise typer.Exit(1)


def minutes_of(text: str) -> float:
    """PURE. Of a duration: ``30``, ``30m``, ``2h``.

    Raises:
        InvalidRequest: it is none.
    """
    unit = UNITS.get(text[-1:])
    number = text if unit is None else text[:-1]
    try:
        minutes = float(number) * (unit or 1.0)
    except ValueError:
        minutes = 0.0
    if not 0 < minutes < float("inf"):
        raise refuse(f"--for should be a time as 30m, 2h or 1d, not {text[:40]!r}", "for")
    return minutes


def _alerts(report: AlertReport) -> RenderableType:
    if not report.enabled:
        return "alerts are off: alerts.enabled is false in the config"
    parts: list[RenderableType] = []
    if report.alerts:
        head = ("STATUS", "SEVERITY", "ALERT", "WHOSE", "SINCE", "WHY")
        parts.append(render.table(head, [_alert(alert) for alert in report.alerts]))
    else:
        parts.append(Text("nothing fires, and nothing did lately"))
    parts += [Text(render.clean(f"silenced: {_silence_line(s)}")) for s in report.silences]
    parts += [
        Text(render.clean(f"target {t.name} is not reached: {t.problem}"))
        for t in report.targets
        if t.problem
    ]
    return Group(*parts)


def _alert(alert: AlertView) -> tuple[str, ...]:
    since = alert.resolved_at or alert.fired_at or alert.active_at
    status = f"{alert.status} (silenced)" if alert.silenced_by else alert.status
    whose = ", ".join(alert.labels.values()) or "the pool"
    return (status, alert.severity, alert.alert, whose, render.local_time(since), alert.reason)


def _rules(report: AlertReport) -> RenderableType:
    if not report.enabled:
        return "alerts are off: alerts.enabled is false in the config"
    head = ("RULE", "SEVERITY", "SIGNAL", "ABOVE", "FOR", "WHAT IT MEANS")
    rows = [
        (
            rule.name,
            rule.severity,
            rule.signal,
            f"{rule.above:g}",
            f"{rule.for_seconds:g}s",
            f"not measured: {rule.not_measured}" if rule.not_measured else rule.summary,
        )
        for rule in report.rules
    ]
    targets = [
        (t.name, t.kind, t.min_severity, str(t.sent), t.problem or "") for t in report.targets
    ]
    parts: list[RenderableType] = [render.table(head, rows)]
    if targets:
        parts.append(render.table(("TARGET", "KIND", "FROM", "SENT", "PROBLEM"), targets))
    else:
        parts.append(Text("nobody is told: there are no targets in the config file"))
    return Group(*parts)


def _silence_line(silence: SilenceView) -> str:
    what = ", ".join(f"{name} {pattern}" for name, pattern in silence.matchers.items())
    why = f" ({silence.comment})" if silence.comment else ""
    return f"{what} until {render.local_time(silence.ends_at)}{why} [{silence.silence_id}]"


def _tested(problems: dict[str, str]) -> str:
    if not problems:
        return "there are no targets: alerts.targets in the config file is empty"
    return "\n".join(
        f"{name}: {f'not taken: {problem}' if problem else 'it has taken the message'}"
        for name, problem in problems.items()
    )
