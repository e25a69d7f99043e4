"""PURE. A chat model that speaks, listens and draws: the pool gives it tools, and carries out their
calls with other models; the caller's own tools go back to the caller."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, TypeAlias

from modelpool_client.errors import InvalidRequest
from modelpool_client.surfaces.routes import (
    CHAT_PATH,
    IMAGES_PATH,
    SPEECH_PATH,
    TRANSCRIPTIONS_PATH,
)

from modelpool.catalog.value_checks import integer, text
from modelpool.routing.answers import Call, calls_of, text_of
from modelpool.routing.members import Detail, Member, detail_of, refused, shortly, with_members
from modelpool.routing.plan import Ask, Collect, File, Outcome, Plan, Reply, Step
from modelpool.routing.request import RouteRequest

from .base import Known, Spec
from .targets import TARGET, Target, read_target

MOST_ROUNDS, ROUNDS = 8, 4
MOST_CALLS = 8
MOST_SOUNDS = 16
MAX_SOUND_BYTES = 25 << 20
SPEAK, LISTEN, DRAW = "speak_aloud", "transcribe_audio", "draw_picture"


def _tool(name: str, description: str, key: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    parameters = {"type": "object", "properties": {key: schema}, "required": [key]}
    function = {"name": name, "description": description, "parameters": parameters}
    return {"type": "function", "function": function}


TOOLS: Mapping[str, Mapping[str, Any]] = {
    "speech": _tool(
        SPEAK,
        "Say a text aloud; the user hears it with your answer.",
        "text",
        {"type": "string", "description": "what is said"},
    ),
    "transcription": _tool(
        LISTEN,
        "Read what is said in a recording that the user has sent.",
        "audio",
        {"type": "integer", "description": "its number, as in [audio 1]"},
    ),
    "picture": _tool(
        DRAW,
        "Draw a picture; the user sees it with your answer.",
        "prompt",
        {"type": "string", "description": "what is to be seen"},
    ),
}
_ROLES = {SPEAK: "speech", LISTEN: "transcription", DRAW: "picture"}


@dataclass(frozen=True)
class _Omni:
    chat: Target
    tools: Mapping[str, Target]
    voice: str
    max_rounds: int


@dataclass(frozen=True)
class _Sound:
    format: str
    content: bytes


@dataclass(frozen=True)
class _Talk:
    """A request at work.

    Attributes:
        messages: so far, as the chat model is told them.
        members: that were asked so far.
        outputs: what was spoken and drawn, for the caller.
        rounds: of tools that were carried out.
    """

    said: _Omni
    request: RouteRequest
    detail: Detail
    sounds: tuple[_Sound, ...]
    messages: tuple[Mapping[str, Any], ...]
    members: tuple[Member, ...] = ()
    outputs: tuple[Mapping[str, Any], ...] = ()
    notes: tuple[str, ...] = ()
    rounds: int = 0


# What a tool's model has answered: a text for the chat model, and what the caller is given.
Told: TypeAlias = tuple[str, tuple[Mapping[str, Any], ...]]


class Omni:
    """``chat`` is the model that talks. ``speech``, ``transcription`` and ``picture`` are those
    behind its tools, each where there is to be such a tool; ``voice`` is what it speaks with.
    After ``max_rounds`` rounds of the pool's tools it must answer without them."""

    name = "omni"
    summary = "a chat model that speaks, listens and draws by other models"
    keys: ClassVar[Mapping[str, Any]] = {
        "chat": TARGET,
        **dict.fromkeys(TOOLS, TARGET),
        "voice": {"type": "string"},
        "max_rounds": {"type": "integer", "minimum": 1, "maximum": MOST_ROUNDS, "default": ROUNDS},
    }
    required = ("chat",)

    def read(self, data: Mapping[str, Any]) -> Spec:
        """See ``Kind``."""
        chat = read_target("chat", data["chat"])
        tools = {key: read_target(key, data[key]) for key in TOOLS if key in data}
        if not tools:
            raise ValueError(f"{', '.join(TOOLS)}: at least one of these models is required")
        if "voice" in data and "speech" not in tools:
            raise ValueError("voice is for a model of speech, and there is none")
        read: dict[str, Any] = {"voice": "", "max_rounds": ROUNDS}
        for key, check in (("voice", text), ("max_rounds", integer(1, MOST_ROUNDS))):
            if key in data:
                try:
                    read[key] = check(data[key])
                except ValueError as e:
                    raise ValueError(f"{key} {e}") from None
        said = {"chat": chat.as_json(), **{key: t.as_json() for key, t in tools.items()}}
        said |= {key: value for key, value in read.items() if key in data}
        names = [chat.model, *(t.model for t in tools.values())]
        return Spec(said, _Omni(chat, tools, **read), tuple(dict.fromkeys(names)))

    def plan(self, spec: Spec, request: RouteRequest, known: Known) -> Plan:
        """See ``Kind``. On other routes than chat completions it is its chat model.

        Raises:
            InvalidRequest: a recording cannot be read, or a tool of the caller's has the name of
                one of ours.
        """
        said: _Omni = spec.read
        if request.path != CHAT_PATH:
            why = f"{said.chat.model} answers; there are no tools of the pool at {request.path}"
            return Plan(said.chat.ask(), (why,))
        detail = detail_of(request)
        own = _own_names(said)
        for tool in request.data.get("tools") or ():
            name = tool.get("function", {}).get("name") if isinstance(tool, Mapping) else None
            if name in own:
                text_ = f"{name} is a tool of {request.name[:80]} itself; call yours otherwise"
                raise InvalidRequest(text_, param="tools")
        messages = request.data.get("messages")
        sounds: list[_Sound] = []
        if "transcription" in said.tools and isinstance(messages, list):
            messages = [_without_sounds(message, sounds) for message in messages]
        talk = _Talk(said, request, detail, tuple(sounds), tuple(messages or ()))
        what = ", ".join(f"{key} by {t.model}" for key, t in said.tools.items())
        return Plan(_chat(talk), (f"{said.chat.model} talks; {what}",))


# -- sounds that the caller sends -----------------------------------------------------------------


def _without_sounds(message: Any, sounds: list[_Sound]) -> Any:
    """The message with ``[audio 1]`` in the place of a recording, which ``sounds`` gets."""
    content = message.get("content") if isinstance(message, Mapping) else None
    if not isinstance(content, list):
        return message
    parts = []
    for part in content:
        if isinstance(part, Mapping) and part.get("type") == "input_audio":
            sounds.append(_sound(part.get("input_audio"), len(sounds) + 1))
            parts.append({"type": "text", "text": f"[audio {len(sounds)}]"})
        else:
            parts.append(part)
    return {**message, "content": parts}


def _sound(said: Any, number: int) -> _Sound:
    if number > MOST_SOUNDS:
        raise InvalidRequest(f"more than {MOST_SOUNDS} recordings", param="messages")
    try:
        content = base64.b64decode(said["data"], validate=True)
    except (TypeError, KeyError, ValueError, binascii.Error):
        text_ = f"the data of recording {number} is no base64"
        raise InvalidRequest(text_, param="messages") from None
    if len(content) > MAX_SOUND_BYTES:
        text_ = f"recording {number} has {len(content)} bytes, {MAX_SOUND_BYTES} at most"
        raise InvalidRequest(text_, param="messages")
    form = said.get("format", "wav")
    return _Sound(form if isinstance(form, str) and form.isalnum() else "wav", content)


# -- rounds ---------------------------------------------------------------------------------------


def _own_names(said: _Omni) -> set[str]:
    return {TOOLS[key]["function"]["name"] for key in said.tools}


def _chat(talk: _Talk) -> Step:
    said, data = talk.said, {**talk.request.data, "messages": list(talk.messages)}
    is_over = talk.rounds >= said.max_rounds
    if data.get("tool_choice") != "none" and not is_over:
        own = [TOOLS[k] for k in said.tools if k != "transcription" or talk.sounds]
        data["tools"] = [*(data.get("tools") or ()), *own]
    if talk.rounds and "tool_choice" in data and data["tool_choice"] != "none":
        # What the caller has required of the first answer would be required for ever.
        data["tool_choice"] = "auto"
    data = {k: v for k, v in data.items() if k != "tools" or v}
    ask = Ask(said.chat.model, said.chat.rules, data, CHAT_PATH)
    may_ask = tuple(t.model for t in said.tools.values())
    return Collect((ask,), partial(_answered, talk), "its calls of tools", may_ask=may_ask)


def _answered(talk: _Talk, outcomes: Sequence[Outcome]) -> Step | Reply | Outcome:
    (outcome,) = outcomes
    if not outcome.is_answer:
        return outcome
    said = outcome.said()
    own = _own_names(talk.said)
    calls = [call for call in _calls(said) if _name(call) in own]
    others = [call for call in _calls(said) if _name(call) not in own]
    member = Member(talk.said.chat.model, outcome, role="chat", is_chosen=not calls)
    talk = _with(talk, members=(*talk.members, member))
    if not calls:
        return _reply(talk, said)
    if others:
        # The caller answers its own calls, in a conversation that knows nothing of ours.
        names = ", ".join(sorted({_name(call) for call in calls}))
        note = f"{names} came with calls of the caller's tools, which come first"
        return _reply(_with(talk, notes=(*talk.notes, note)), _with_calls(said, others))
    if talk.rounds >= talk.said.max_rounds or len(calls) > MOST_CALLS:
        why = f"after {talk.rounds} rounds" if len(calls) <= MOST_CALLS else f"{len(calls)} at once"
        if text_of(said):
            note = f"calls of the pool's tools were left out: {why}"
            return _reply(_with(talk, notes=(*talk.notes, note)), _with_calls(said, []))
        text_ = f"{talk.said.chat.model} goes on calling tools: {why}"
        return refused(outcome, text_, "too_many_tool_calls")
    return _carry_out(talk, said, calls)


def _carry_out(talk: _Talk, said: Mapping[str, Any], calls: list[Mapping[str, Any]]) -> Step:
    message = said["choices"][0]["message"]
    turn = {"role": "assistant", "content": message.get("content"), "tool_calls": calls}
    read = calls_of({"choices": [{"message": {"tool_calls": calls}}]})
    asks = [_ask_of(talk, call) for call in read]
    steps = tuple(ask for ask in asks if isinstance(ask, Ask))
    then = partial(_done, _with(talk, messages=(*talk.messages, turn)), calls, read, asks)
    how = f"the answer to {', '.join(call.name for call in read)}"
    return Collect(steps, then, how)


def _ask_of(talk: _Talk, call: Call) -> Ask | str:
    """The question that carries out a call; a text where it cannot be."""
    arguments = call.arguments if isinstance(call.arguments, Mapping) else {}
    role = _ROLES[call.name]
    target = talk.said.tools[role]
    if role == "transcription":
        number = arguments.get("audio")
        if not isinstance(number, int) or not 1 <= number <= len(talk.sounds):
            return f"error: audio must be a number from 1 to {len(talk.sounds)}"
        sound = talk.sounds[number - 1]
        name = f"audio.{sound.format}"
        file = File(name, f"audio/{sound.format}", sound.content)
        data: Mapping[str, Any] = {"response_format": "json"}
        return Ask(target.model, target.rules, data, TRANSCRIPTIONS_PATH, files={"file": file})
    key = "text" if role == "speech" else "prompt"
    wanted = arguments.get(key)
    if not isinstance(wanted, str) or not wanted.strip():
        return f"error: {key} must be a text"
    if role == "speech":
        voice = {"voice": talk.said.voice} if talk.said.voice else {}
        return Ask(target.model, target.rules, {"input": wanted, **voice}, SPEECH_PATH)
    data = {"prompt": wanted, "response_format": "b64_json"}
    return Ask(target.model, target.rules, data, IMAGES_PATH)


def _done(
    talk: _Talk,
    calls: Sequence[Mapping[str, Any]],
    read: Sequence[Call],
    asks: Sequence[Ask | str],
    outcomes: Sequence[Outcome],
) -> Step:
    """Tell the chat model what has come of its calls, failures too."""
    left = iter(outcomes)
    messages, members, outputs = list(talk.messages), list(talk.members), list(talk.outputs)
    for call, about, ask in zip(calls, read, asks, strict=True):
        if isinstance(ask, Ask):
            outcome = next(left)
            members.append(Member(ask.model, outcome, role=_ROLES[about.name]))
            told, made = _told(about, outcome, len(outputs) + 1)
            outputs += made
        else:
            told = ask
        messages.append({"role": "tool", "tool_call_id": call.get("id", ""), "content": told})
    talk = _with(
        talk,
        messages=tuple(messages),
        members=tuple(members),
        outputs=tuple(outputs),
        rounds=talk.rounds + 1,
    )
    return _chat(talk)


def _told(call: Call, outcome: Outcome, number: int) -> Told:
    if not outcome.is_answer:
        return f"error: {outcome.message or outcome.error}", ()
    make: dict[str, Callable[[Call, Outcome, int], Told]] = {
        SPEAK: _spoken,
        LISTEN: _heard,
        DRAW: _drawn,
    }
    return make[call.name](call, outcome, number)


def _heard(call: Call, outcome: Outcome, number: int) -> Told:
    return json.dumps({"text": outcome.said().get("text", "")}, ensure_ascii=False), ()


def _spoken(call: Call, outcome: Outcome, number: int) -> Told:
    kind = outcome.headers.get("content-type", "audio/wav").partition(";")[0]
    data = base64.b64encode(outcome.body).decode()
    made = {"type": "audio", "content_type": kind, "data": data, "text": call.arguments["text"]}
    return f"done: the user hears it (output {number})", (made,)


def _drawn(call: Call, outcome: Outcome, number: int) -> Told:
    made = []
    for each in outcome.said().get("data") or ():
        told = {k: each[k] for k in ("b64_json", "url") if isinstance(each.get(k), str)}
        data = {"data": told["b64_json"]} if "b64_json" in told else {"url": told.get("url", "")}
        prompt = call.arguments["prompt"]
        made.append({"type": "image", "content_type": "image/png", **data, "text": prompt})
    if not made:
        return "error: no picture came of it", ()
    return f"done: the user sees it (output {number})", tuple(made)


# -- the answer -----------------------------------------------------------------------------------


def _reply(talk: _Talk, said: Mapping[str, Any]) -> Reply:
    """The chat model's answer, with what was spoken and drawn for it."""
    choices = [dict(choice) for choice in said.get("choices") or ()]
    if choices and talk.outputs:
        choices[0]["message"] = {**choices[0].get("message", {}), **_media(talk, said)}
    notes = list(talk.notes)
    if talk.rounds:
        count = sum(m.role in _ROLES.values() for m in talk.members)
        notes.insert(0, f"{count} calls of the pool's tools in {talk.rounds} rounds")
    failed = [m for m in talk.members if not m.outcome.is_answer]
    notes += [f"{m.role} by {m.name} failed ({m.outcome.error})" for m in failed]
    body = {**said, "choices": choices} if choices else said
    more = {"outputs": [_shown(each, talk.detail) for each in talk.outputs]}
    return with_members(body, "omni", talk.members, talk.detail, notes, more)


def _media(talk: _Talk, said: Mapping[str, Any]) -> dict[str, Any]:
    """``audio`` as OpenAI's chat has it, the last that was spoken; ``images`` as OpenRouter's."""
    told: dict[str, Any] = {}
    for i, each in enumerate(talk.outputs, 1):
        if each["type"] == "audio":
            name = f"audio_{said.get('id', '')}_{i}"
            told["audio"] = {"id": name, "data": each["data"], "transcript": each["text"]}
            told["audio"]["expires_at"] = 0
        else:
            url = each.get("url") or f"data:{each['content_type']};base64,{each['data']}"
            told.setdefault("images", []).append({"type": "image_url", "image_url": {"url": url}})
    return told


def _shown(output: Mapping[str, Any], detail: Detail) -> dict[str, Any]:
    """An output without its data, unless all is to be told: they are in the message, too."""
    if detail == "full":
        return dict(output)
    told = {k: v for k, v in output.items() if k != "data"}
    return {**told, "text": shortly(told["text"])}


def _calls(said: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    choices = said.get("choices")
    message = choices[0].get("message") if isinstance(choices, list) and choices else None
    found = message.get("tool_calls") if isinstance(message, Mapping) else None
    return [
        c for c in found or () if isinstance(c, Mapping) and isinstance(c.get("function"), dict)
    ]


def _name(call: Mapping[str, Any]) -> str:
    return str(call["function"].get("name"))


def _with_calls(said: Mapping[str, Any], calls: list[Mapping[str, Any]]) -> dict[str, Any]:
    """The answer with these calls of tools only."""
    first, *rest = said["choices"]
    message = {k: v for k, v in first["message"].items() if k != "tool_calls"}
    message |= {"tool_calls": calls} if calls else {}
    reason = "tool_calls" if calls else "stop"
    return {**said, "choices": [{**first, "message": message, "finish_reason": reason}, *rest]}


def _with(talk: _Talk, **changes: Any) -> _Talk:
    return dataclasses.replace(talk, **changes)
