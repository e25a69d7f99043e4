"""Traces without processes: what the environment says of them, what becomes of a worker's facts,
and an exporter whose collector is slow, dead or gone."""

from __future__ import annotations

import time
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool.observe import otlp
from modelpool.observe import span_names as names
from modelpool.observe.otlp import NoTraces, OtlpExporter
from modelpool.observe.spans import NO_SPAN, Span, current
from modelpool.observe.trace_settings import OFF, tracing
from modelpool.observe.worker_spans import worker_spans
from modelpool_client.errors import NotFound
from modelpool_client.surfaces.routes import SURFACES
from modelpool_client.tracing.context import TraceContext
from modelpool_client.tracing.sampling import new_span_id, new_trace_id, worker_trace
from modelpool_client.wire import EndedRequest, Tracing
from support.otlp import collecting

SECONDS = 30.0


@pytest.mark.parametrize(
    ("how", "ratio", "environ", "expected"),
    [
        ("off", 1.0, {}, OFF),
        ("otlp", None, {}, Tracing(True, 1.0)),
        ("otlp", 0.25, {"OTEL_TRACES_SAMPLER": "always_off"}, Tracing(True, 0.25)),
        ("otlp", None, {"OTEL_TRACES_SAMPLER": "always_off"}, Tracing(True, 0.0)),
        ("otlp", None, {"OTEL_TRACES_SAMPLER": "parentbased_always_on"}, Tracing(True, 1.0)),
        (
            *("otlp", None),
            {"OTEL_TRACES_SAMPLER": "ParentBased_TraceIdRatio", "OTEL_TRACES_SAMPLER_ARG": "0.1"},
            Tracing(True, 0.1),
        ),
        (
            *("otlp", None),
            {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "many"},
            Tracing(True, 1.0),
        ),
        (
            *("otlp", None),
            {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "7"},
            Tracing(True, 1.0),
        ),
        ("otlp", 1.0, {"OTEL_SDK_DISABLED": "true"}, OFF),
        ("otlp", 1.0, {"OTEL_TRACES_EXPORTER": "none"}, OFF),
    ],
)
def test_what_is_traced(
    how: str, ratio: float | None, environ: Mapping[str, str], expected: Tracing
) -> None:
    assert tracing(how, ratio, False, environ) == expected


@pytest.mark.parametrize("path", list(SURFACES))
def test_every_surface_has_a_word_for_what_is_done(path: str) -> None:
    word = names.operation_of(path)
    assert word
    assert " " not in word


ENDED = EndedRequest(
    request_id="r",
    path="/v1/chat/completions",
    model="alias",
    served="m",
    started_at=1000.0,
    waited_seconds=0.5,
    first_seconds=0.75,
    seconds=2.0,
    prompt_tokens=7,
    cached_tokens=3,
    completion_tokens=5,
    is_stream=True,
    trace=worker_trace(TraceContext("a" * 32, "b" * 16)).text(),
)


def spans(request: EndedRequest) -> tuple[Span, ...]:
    return worker_spans(request, "w", "m", "llama.cpp", lambda span: None)


def test_a_worker_s_facts_become_two_spans() -> None:
    own, engine = spans(ENDED)
    assert (own.parent_id, engine.parent_id) == ("b" * 16, own.context.span_id)
    assert {own.context.trace_id, engine.context.trace_id} == {"a" * 32}
    assert (own.start_ns, own.end_ns) == (1000 * 10**9, 1002 * 10**9)
    assert (engine.start_ns, engine.end_ns) == (1000_500_000_000, 1002 * 10**9)
    ((name, at, _),) = engine.events
    assert (name, at) == ("first token", 1000_750_000_000)
    assert engine.attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "llama.cpp",
        "gen_ai.request.model": "alias",
        "gen_ai.response.model": "m",
        "gen_ai.request.stream": True,
        "gen_ai.response.time_to_first_chunk": 0.25,
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.usage.cache_read.input_tokens": 3,
    }
    assert not own.error


@pytest.mark.parametrize(
    ("change", "count", "error"),
    [
        ({"trace": ""}, 0, None),
        ({"trace": "no trace"}, 0, None),
        ({"trace": ENDED.trace.rpartition("-")[0] + "-", "status": 400, "code": "bad"}, 1, ""),
        ({"status": 500, "code": "engine_failed"}, 2, "engine_failed"),
        ({"status": 499, "code": "client_left"}, 2, "client_left"),
        ({"first_seconds": None}, 2, ""),
    ],
)
def test_what_failed_or_was_not_asked(
    change: dict[str, object], count: int, error: str | None
) -> None:
    found = spans(ENDED._replace(**change))  # type: ignore[arg-type]
    assert len(found) == count
    assert {span.error for span in found} == (set() if error is None else {error})


def span(name: str = "s", sink: list[Span] | None = None) -> Span:
    context = TraceContext(new_trace_id(), new_span_id())
    taken: list[Span] = [] if sink is None else sink
    return Span(taken.append, name, context, start_ns=time.time_ns())


def raise_below(root: Span) -> None:
    assert current().parent_id == root.context.span_id
    raise NotFound("nothing is here")


def test_spans_are_below_who_is_at_work() -> None:
    ended: list[Span] = []
    root = span("root", ended)
    with root:
        assert current() is root
        with pytest.raises(NotFound), current().child("a"):
            raise_below(root)
        with current().child("b"):
            pass
    assert current() is NO_SPAN
    assert [s.name for s in ended] == ["a", "b", "root"]
    assert [s.error for s in ended] == ["not_found", "", ""]
    assert {s.parent_id for s in ended[:2]} == {root.context.span_id}
    root.end()
    assert len(ended) == 3, "it ends once"


@given(st.lists(st.sampled_from(["child", "set", "fail", "end", "with"])))
def test_what_is_not_traced_leaves_nothing(steps: list[str]) -> None:
    for step in steps:
        if step == "child":
            assert NO_SPAN.child("x") is NO_SPAN
        elif step == "set":
            NO_SPAN.set({"a": 1})
        elif step == "fail":
            NO_SPAN.fail("code", "why")
        elif step == "end":
            NO_SPAN.end()
        else:
            with NO_SPAN as nothing:
                assert nothing is current()
    left = [NO_SPAN.attributes, NO_SPAN.error, NO_SPAN.end_ns, NO_SPAN.events]
    assert not any(left)


def until(is_so: object) -> None:
    end = time.monotonic() + SECONDS
    while not is_so():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.01)


def test_what_is_sent_is_what_was_seen() -> None:
    environ = {"OTEL_BSP_SCHEDULE_DELAY": "10"}
    with collecting() as collector:
        exporter = OtlpExporter(collector.url, "pool", "1", environ)
        for each in spans(ENDED):
            exporter.put(each)
        until(lambda: len(collector.spans) == 2)
        exporter.close()
    own, engine = collector.spans
    assert (own.parent, engine.parent) == ("b" * 16, own.id)
    assert (own.service, own.kind, engine.kind) == ("modelpool-worker", "server", "client")
    assert engine["gen_ai.usage.input_tokens"] == 7
    assert engine.events == ("first token",)
    assert exporter.lost == 0


def test_what_is_left_goes_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp, "LAST_SECONDS", SECONDS)
    with collecting() as collector:
        exporter = OtlpExporter(collector.url, "pool", "1", {})
        for each in spans(ENDED):
            exporter.put(each)
        exporter.close()
        assert len(collector.spans) == 2


def test_a_collector_that_hangs_costs_spans_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(otlp, "LAST_SECONDS", 0.05)
    environ = {
        "OTEL_BSP_SCHEDULE_DELAY": "10",
        "OTEL_BSP_MAX_QUEUE_SIZE": "8",
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "4",
    }
    with collecting(is_held=True) as collector:
        exporter = OtlpExporter(collector.url, "pool", "1", environ)
        exporter.put(span())
        until(lambda: collector.requests == 1)
        for _ in range(100):
            exporter.put(span())  # nobody waits: it would hang here
        assert exporter.lost == 92
        collector.status = 400
        collector.held.set()
        until(lambda: exporter.lost == 101)
        collector.status = 200
        exporter.put(span("later"))
        until(lambda: collector.named("later"))
        exporter.close()
    (line,) = [r.getMessage() for r in caplog.records if r.name == "modelpool.observe.otlp"]
    assert "could not be sent" in line, "of all that is lost in a minute there is one line"


def test_without_the_extra_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(NoTraces, match="modelpool\\[otel\\]"):
        OtlpExporter(None, "pool", "1", {})
