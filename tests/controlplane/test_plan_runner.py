"""Plans at work: who is asked, what is passed on, what is told, and that nobody works in vain."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from modelpool.catalog.request_rules import Limit, Rules
from modelpool.gateway.plan import Asked, Run
from modelpool.routing.plan import (
    MOST_ASKED,
    Ask,
    Collect,
    File,
    FirstOf,
    InOrder,
    Outcome,
    Reply,
    Step,
)
from modelpool.routing.resolve import Passed, Resolved
from modelpool_client.errors import (
    InvalidRequest,
    LoadFailed,
    ModelPoolError,
    PoolStopping,
    RateLimited,
    WorkerFailed,
)
from modelpool_client.http1.exchange import JSON_TYPE, Exchange
from modelpool_client.http1.timeouts import Timeouts
from modelpool_client.surfaces import forms, sse
from modelpool_client.surfaces.routes import (
    CHAT_PATH,
    EMBEDDINGS_PATH,
    SURFACES,
    TRANSCRIPTIONS_PATH,
    Surface,
)
from support.upstream import Client
from support.virtual_time import run_virtual

Script = Callable[[Any], Awaitable[None]]
STREAM = list(sse.HEADERS)
HI = [{"role": "user", "content": "hi"}]


def says(text: str, status: int = 200) -> Script:
    async def answer(exchange: Any) -> None:
        message = {"role": "assistant", "content": text}
        body = {"id": "x", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
        exchange.send(status, [JSON_TYPE], json.dumps(body).encode())

    return answer


def fails(error: ModelPoolError) -> Script:
    async def answer(exchange: Any) -> None:
        raise error

    return answer


def refuses(error: ModelPoolError) -> Script:
    """As a worker: by an answer."""

    async def answer(exchange: Any) -> None:
        headers = [(k.encode(), v.encode()) for k, v in error.headers().items()]
        body = json.dumps(error.body()).encode()
        exchange.send(error.status, [JSON_TYPE, *headers], body)

    return answer


def streams(*parts: str, error: ModelPoolError | None = None) -> Script:
    async def answer(exchange: Any) -> None:
        if not exchange.status:
            exchange.begin(200, STREAM)
        for part in parts:
            exchange.write(sse.event(part))
            await asyncio.sleep(0)
        if error is not None:
            raise error
        exchange.end()

    return answer


async def expand(step: Step) -> Resolved:
    return Resolved(step, ())


class Scene:
    """Models that do what their scripts say."""

    def __init__(self, **scripts: Script) -> None:
        self.scripts = scripts
        self.asked: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.cancelled: list[str] = []
        self.run: Run | None = None

    async def ask_model(
        self, exchange: Any, path: str, surface: Surface, body: bytes, data: dict[str, Any]
    ) -> None:
        assert json.loads(body) == data
        self.asked.append(data)
        self.paths.append(path)
        exchange.headers.append((b"x-modelpool-model", data["model"].encode()))
        try:
            with exchange:
                await self.scripts[data["model"]](exchange)
        except asyncio.CancelledError:
            self.cancelled.append(data["model"])
            raise

    async def never(self, exchange: Any) -> None:
        await asyncio.Event().wait()

    async def answered(
        self,
        step: Step,
        path: str = CHAT_PATH,
        client: Client | None = None,
        ping: float = 60,
        **said: Any,
    ) -> Client:
        data = {"model": "v", "messages": HI, **said}

        async def handler(exchange: Exchange) -> None:
            asked = Asked(exchange, path, SURFACES[path], json.dumps(data).encode(), data)
            plan = Resolved(step, (Passed("v", "test", 3, ("why",)),))
            has = self.scripts.__contains__
            self.run = Run(asked, plan, self.ask_model, has, expand)
            await self.run.answer()

        client = client or Client(path=path)
        before = len(asyncio.all_tasks())
        await client.ask(handler, Timeouts(stream_ping=ping))
        await asyncio.sleep(0)  # what was cancelled ends
        assert len(asyncio.all_tasks()) <= before, asyncio.all_tasks()
        return client

    @property
    def models(self) -> list[str]:
        return [data["model"] for data in self.asked]


def text_of(client: Client) -> str:
    return str(json.loads(client.text)["choices"][0]["message"]["content"])


def events(client: Client) -> list[Any]:
    lines = client.text.split(b"\n\n")
    return [json.loads(x[6:]) for x in lines if x.startswith(b"data: ") and x != b"data: [DONE]"]


OOM = LoadFailed("no room", code="oom")
MISTAKE = InvalidRequest("temperature must be a number", param="temperature")


def in_order(*models: str, **more: Any) -> InOrder:
    return InOrder(tuple(map(Ask, models)), **more)


def test_one_question_is_passed_through() -> None:
    async def scene() -> None:
        s = Scene(a=says("A"))
        client = await s.answered(
            Ask("a", Rules(limits={"max_tokens": Limit(high=5)})), max_tokens=9
        )
        assert text_of(client) == "A"
        assert s.asked == [{"model": "a", "messages": HI, "max_tokens": 5}]
        headers = client.answer_headers
        assert headers["x-modelpool-virtual-model"] == "v@3"
        assert headers["x-modelpool-route"] == "v: why"
        assert headers["x-modelpool-changed"] == "max_tokens=5 (limit, was 9)"
        assert headers["x-modelpool-model"] == "a"
        assert "x-modelpool-fallback" not in headers

    asyncio.run(scene())


@pytest.mark.parametrize("how", [fails, refuses])
@pytest.mark.parametrize("error", [OOM, WorkerFailed("died"), RateLimited("later")])
def test_who_fails_before_the_first_byte_is_followed(
    how: Callable[[ModelPoolError], Script], error: ModelPoolError
) -> None:
    async def scene() -> None:
        s = Scene(a=how(error), b=how(error), c=says("C"))
        client = await s.answered(in_order("a", "b", "c"))
        assert (client.status, text_of(client)) == (200, "C")
        told = f"a ({error.code}), b ({error.code})"
        assert client.answer_headers["x-modelpool-fallback"] == told
        assert client.answer_headers["x-modelpool-model"] == "c"
        assert [h for h in client.sent[0]["headers"] if h[0] == b"x-modelpool-model"] == [
            (b"x-modelpool-model", b"c")
        ]

    asyncio.run(scene())


@pytest.mark.parametrize("how", [fails, refuses])
@pytest.mark.parametrize("error", [MISTAKE, PoolStopping("it stops")])
def test_what_no_other_would_do_better_is_told_at_once(
    how: Callable[[ModelPoolError], Script], error: ModelPoolError
) -> None:
    async def scene() -> None:
        s = Scene(a=how(error), b=says("B"))
        client = await s.answered(in_order("a", "b"))
        assert client.status == error.status
        assert json.loads(client.text)["error"]["message"] == error.message
        assert s.models == ["a"]

    asyncio.run(scene())


def test_codes_that_somebody_names_move_on_too() -> None:
    async def scene() -> None:
        s = Scene(a=fails(MISTAKE), b=says("B"))
        step = in_order("a", "b", also_on=frozenset({"invalid_request"}))
        assert text_of(await s.answered(step)) == "B"

    asyncio.run(scene())


def test_where_all_fail_the_last_is_told_and_the_others_named() -> None:
    async def scene() -> None:
        s = Scene(a=fails(OOM), b=fails(WorkerFailed("it died")))
        client = await s.answered(in_order("a", "gone", "b"))
        assert client.status == 502
        assert json.loads(client.text)["error"]["message"] == "it died"
        assert client.answer_headers["x-modelpool-fallback"] == "a (oom), gone (model_not_found)"
        assert s.models == ["a", "b"]

    asyncio.run(scene())


def test_a_stream_that_has_begun_is_nobody_else_s() -> None:
    async def scene() -> None:
        s = Scene(a=streams("one", error=WorkerFailed("it died")), b=streams("B"))
        client = await s.answered(in_order("a", "b"), stream=True)
        told = events(client)
        assert told[0] == "one"
        assert told[1]["error"]["message"] == "it died"
        assert s.models == ["a"]

    asyncio.run(scene())


def test_comments_are_no_answer() -> None:
    async def slowly(exchange: Any) -> None:
        exchange.wait_reason = lambda: "a loads"
        while not exchange.status:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        raise OOM

    async def scene() -> None:
        s = Scene(a=slowly, b=streams("B"))
        client = await s.answered(in_order("a", "b"), ping=0.02, stream=True)
        assert b": a loads" in client.text
        assert events(client) == ["B"]
        s = Scene(a=slowly, b=fails(WorkerFailed("it died")))
        client = await s.answered(in_order("a", "b"), ping=0.02, stream=True)
        assert events(client)[0]["error"]["message"] == "it died"

    asyncio.run(scene())


def test_the_first_of_several_is_passed_on_and_the_others_are_ended() -> None:
    async def scene() -> None:
        s = Scene(a=fails(OOM), c=streams("one", "two"))
        s.scripts["b"] = s.never
        client = await s.answered(FirstOf((Ask("a"), Ask("b"), Ask("c"))), stream=True)
        assert events(client) == ["one", "two"]
        assert s.cancelled == ["b"]
        assert client.answer_headers["x-modelpool-model"] == "c"
        s = Scene(a=fails(OOM), b=fails(MISTAKE))
        client = await s.answered(FirstOf((Ask("a"), Ask("b"))))
        assert client.status == 400

    asyncio.run(scene())


def test_a_client_that_leaves_ends_all_that_was_asked_for_it() -> None:
    async def scene() -> None:
        for make in (FirstOf, lambda asks: Collect(asks, lambda o: o[0], "the first")):
            s = Scene()
            s.scripts |= {"a": s.never, "b": s.never}
            client = Client()

            async def leave(s: Scene = s, client: Client = client) -> None:
                while len(s.asked) < 2:  # noqa: ASYNC110
                    await asyncio.sleep(0)
                client.gone.set()

            leaving = asyncio.ensure_future(leave())
            asking = asyncio.ensure_future(s.answered(make((Ask("a"), Ask("b"))), client=client))
            await leaving
            await asking
            assert sorted(s.cancelled) == ["a", "b"]

    asyncio.run(scene())


# -- answers made of several ----------------------------------------------------------------------


def voted(outcomes: Sequence[Outcome]) -> Reply:
    texts = [o.said()["choices"][0]["message"]["content"] for o in outcomes if o.is_answer]
    best = max(texts, key=texts.count)
    message = {"role": "assistant", "content": best}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return Reply({"choices": [choice]}, notes=(f"{texts.count(best)} of {len(outcomes)}",))


def test_answers_side_by_side_become_one() -> None:
    async def scene() -> None:
        s = Scene(a=says("7"), b=fails(OOM), c=says("8"), d=says("7"))
        step = Collect(tuple(map(Ask, "abcd")), voted, "majority vote")
        client = await s.answered(step)
        assert text_of(client) == "7"
        assert client.answer_headers["x-modelpool-fallback"] == "b (oom)"
        assert client.answer_headers["x-modelpool-model"] == "a, c, d"
        assert ("x-modelpool-route", "2 of 4") in [
            (k.decode(), v.decode()) for k, v in client.sent[0]["headers"]
        ]
        assert all("stream" not in data for data in s.asked)

    asyncio.run(scene())


def test_a_stream_is_wanted_of_an_answer_that_is_made_of_several() -> None:
    async def scene() -> None:
        s = Scene(a=says("7"), b=says("7"))
        step = Collect((Ask("a"), Ask("b")), voted, "majority vote")
        client = await s.answered(step, stream=True)
        assert [e["choices"][0]["delta"].get("content") for e in events(client)] == ["7", None]
        assert client.text.endswith(b"data: [DONE]\n\n")
        assert all("stream" not in data for data in s.asked)
        client = await s.answered(step, "/infill", stream=True)
        assert client.status == 501

    asyncio.run(scene())


def test_a_judge_and_a_cascade_are_further_steps() -> None:
    async def scene() -> None:
        def judged(outcomes: Sequence[Outcome]) -> Step:
            texts = [o.said()["choices"][0]["message"]["content"] for o in outcomes]
            question = {"messages": [{"role": "user", "content": f"which? {texts}"}]}
            return Collect((Ask("judge", data=question),), lambda o: outcomes[1], "what it says")

        s = Scene(a=says("A"), b=says("B"), judge=says("2"))
        client = await s.answered(Collect((Ask("a"), Ask("b")), judged, "a judge"))
        assert text_of(client) == "B"
        assert s.asked[-1]["messages"][0]["content"] == "which? ['A', 'B']"

        s = Scene(small=says("not sure"), large=streams("large"))
        step = Collect((Ask("small"),), lambda o: Ask("large"), "small, then large")
        client = await s.answered(step, stream=True)
        assert events(client) == ["large"]
        assert [data.get("stream") for data in s.asked] == [None, True]

    asyncio.run(scene())


def test_one_may_be_asked_on_another_route() -> None:
    async def scene() -> None:
        s = Scene(a=says("A"), e=says("vector"))
        ask = Ask("e", data={"input": "hi"}, path=EMBEDDINGS_PATH)
        step = Collect((ask,), lambda outcomes: Ask("a"), "its vector")
        client = await s.answered(step)
        assert text_of(client) == "A"
        assert s.paths == [EMBEDDINGS_PATH, CHAT_PATH]
        assert s.asked[0] == {"input": "hi", "model": "e"}

    asyncio.run(scene())


def test_enough_is_enough() -> None:
    async def scene() -> None:
        s = Scene(a=says("7"), b=says("7"))
        s.scripts["c"] = s.never
        step = Collect(tuple(map(Ask, "abc")), voted, "majority", lambda o: len(o) >= 2)
        assert text_of(await s.answered(step)) == "7"
        assert s.cancelled == ["c"]

    asyncio.run(scene())


def test_steps_within_steps() -> None:
    async def scene() -> None:
        s = Scene(a=fails(OOM), b=says("B"), c=says("C"))
        inner = in_order("a", "b")
        race = FirstOf((Ask("a"), Ask("c")))
        step = Collect((inner, race), lambda o: Reply({"is": [x.ask.model for x in o]}), "both")
        client = await s.answered(InOrder((Ask("a"), step, Ask("never"))))
        assert json.loads(client.text) == {"is": ["b", "c"]}

    asyncio.run(scene())


def test_a_plan_that_goes_on_asking_is_ended() -> None:
    async def scene() -> None:
        def again(outcomes: Sequence[Outcome]) -> Step:
            return Collect((Ask("a"),), again, "again")

        s = Scene(a=says("A"))
        client = await s.answered(Collect((Ask("a"),), again, "again"))
        assert client.status == 400
        assert json.loads(client.text)["error"]["code"] == "too_many_models"
        assert len(s.asked) == MOST_ASKED

    asyncio.run(scene())


def test_who_has_not_answered_in_time_is_ended_and_told() -> None:
    async def scene() -> None:
        s = Scene(a=says("A"))
        s.scripts["b"] = s.never
        seen: list[Outcome] = []

        def then(outcomes: Sequence[Outcome]) -> Outcome:
            seen.extend(outcomes)
            return outcomes[1]

        step = Collect((Ask("b"), Ask("a")), then, "in time", seconds=5)
        client = await s.answered(step)
        assert text_of(client) == "A"
        assert s.cancelled == ["b"]
        assert [(o.position, o.status, o.error) for o in seen] == [
            (0, 504, "member_timeout"),
            (1, 200, ""),
        ]
        assert client.answer_headers["x-modelpool-fallback"] == "b (member_timeout)"

    run_virtual(scene())


def test_who_is_not_needed_any_more_is_told_too() -> None:
    async def scene() -> None:
        s = Scene(b=says("B"))
        s.scripts["a"] = s.never
        seen: list[Outcome] = []

        def then(outcomes: Sequence[Outcome]) -> Outcome:
            seen.extend(outcomes)
            return outcomes[1]

        step = Collect((Ask("a"), Ask("b")), then, "one", lambda o: [x.position for x in o] == [1])
        assert text_of(await s.answered(step)) == "B"
        assert [o.error for o in seen] == ["not_needed", ""]

    asyncio.run(scene())


def test_a_further_step_says_why_and_an_answer_is_kept_for_its_failure() -> None:
    async def scene() -> None:
        keep = Collect((), lambda o: Reply({"kept": True}, notes=("kept",)), "what there was")
        last = InOrder((Ask("large", reason="small: it refuses"), keep))
        step = Collect((Ask("small"),), lambda o: last, "small, then large")
        s = Scene(small=says("no"), large=says("L"))
        client = await s.answered(step)
        assert text_of(client) == "L"
        routes = [v for k, v in client.sent[0]["headers"] if k == b"x-modelpool-route"]
        assert routes == [b"v: why", b"small: it refuses"]
        s = Scene(small=says("no"), large=fails(OOM))
        client = await s.answered(step)
        assert json.loads(client.text) == {"kept": True}
        routes = [v for k, v in client.sent[0]["headers"] if k == b"x-modelpool-route"]
        assert routes == [b"v: why", b"small: it refuses; kept"]

    asyncio.run(scene())


def test_a_form_is_filled_in() -> None:
    async def scene() -> None:
        told: list[dict[str, Any]] = []

        async def hears(
            exchange: Any, path: str, surface: Surface, body: bytes, data: dict[str, Any]
        ) -> None:
            kind = exchange.request.fields[b"content-type"]
            told.append(forms.decode(kind, body))
            assert b"\r\n\r\nRIFF\r\n" in body
            exchange.send(200, [JSON_TYPE], b'{"text": "hi"}')

        s = Scene(t=says(""))
        s.ask_model = hears  # type: ignore[method-assign]
        file = File("a.wav", "audio/wav", b"RIFF")
        ask = Ask("t", data={"language": "en"}, path=TRANSCRIPTIONS_PATH, files={"file": file})
        step = Collect((ask,), lambda o: Reply(o[0].said()), "what is said")
        client = await s.answered(step)
        assert json.loads(client.text) == {"text": "hi"}
        assert told == [
            {
                "language": "en",
                "model": "t",
                "file": {"filename": "a.wav", "content_type": "audio/wav", "size": 4},
            }
        ]

    asyncio.run(scene())


def test_apis_that_stream_by_default_are_asked_for_whole_answers() -> None:
    async def scene() -> None:
        async def line(exchange: Any) -> None:
            exchange.send(200, [JSON_TYPE], b'{"message": {"content": "A"}, "done": true}')

        s = Scene(a=line)
        step = Collect((Ask("a"),), lambda o: o[0], "it")
        client = await s.answered(step, "/api/chat")
        assert s.asked[0]["stream"] is False
        assert client.text.endswith(b'"done":true}\n')
        assert client.answer_headers["content-type"] == "application/x-ndjson"

    asyncio.run(scene())


def test_answers_made_of_several_are_members_of_others() -> None:
    async def scene() -> None:
        def first(outcomes: Sequence[Outcome]) -> Outcome:
            return outcomes[0]

        s = Scene(a=says("7"), b=says("7"), c=says("8"), d=fails(OOM))
        inner = Collect((Ask("a"), Ask("b")), voted, "majority vote")
        cascade = Collect((Ask("d"),), lambda o: Collect((Ask("a"),), first, "a"), "d, then a")
        client = await s.answered(Collect((Ask("c"), inner, cascade), voted, "majority vote"))
        assert text_of(client) == "7"
        assert sorted(s.models) == ["a", "a", "b", "c", "d"]
        assert client.answer_headers["x-modelpool-fallback"] == "d (oom)"

    asyncio.run(scene())
