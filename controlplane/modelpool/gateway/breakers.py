"""The breakers of all workers and servers elsewhere. Only those that something failed at lately are
kept: of the others there is nothing to know, and a request for a model of theirs costs one look
into an empty dict."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

from modelpool_client.errors import ModelPoolError, NotFound, RateLimited, Unavailable
from modelpool_client.http1.message import Headers

from modelpool.gateway import breaker as b
from modelpool.gateway.breaker import Breaker, Rules, State, Verdict
from modelpool.pool.waiters import Grant

# A worker that fails after it was restarted for that is not helped by another restart.
RESTART_SECONDS = 600.0
# A pause that a server elsewhere tells is believed for so long; then one request finds out.
LONGEST_PAUSE_SECONDS = 300.0
# Its worker waits so long in its client's place.
WAITED_FOR_SECONDS = 2.0
NOBODY: Mapping[str, str] = {}
WORKER, UPSTREAM = "worker:", "upstream:"


class Copies(Protocol):
    """What is asked of the pool."""

    def replica_id(self, model_id: str) -> str:
        """Of the model whose replicas serve that one."""
        ...

    def open_copies(self, model_id: str) -> Mapping[str, str]:
        """The ids of the workers of those replicas that take requests, by key."""
        ...

    def shut_out(self, model_id: str, keys: frozenset[str]) -> None:
        """These get no requests while there are others."""
        ...

    def restart_copy(self, key: str, reason: str) -> None:
        """End its worker when its work is done; who asks meanwhile gets the next."""
        ...


class Passed(NamedTuple):
    """A request that breakers have let pass: the eras in which it began."""

    worker: int = 0
    upstream: int = 0


UNWATCHED = Passed()


@dataclass(frozen=True, slots=True)
class View:
    """A breaker, for people.

    Attributes:
        model_id: of the entry whose worker or server it is.
        is_shut_out: it gets no requests now.
        seconds: until it lets requests pass to find out; None where it is not OPEN.
    """

    breaker_id: str
    model_id: str
    breaker: Breaker
    is_shut_out: bool
    seconds: float | None


@dataclass(slots=True)
class _Kept:
    breaker: Breaker
    worker_id: str = ""


class Breakers:
    """``publish`` is told of every change. Whose answers it hears is told by ``ended``.

    Attributes:
        watched: by the id of the entry that serves, breakers by their own id; only those of which
            something is to be remembered.
        opened: how often each was opened.
        retried: requests that were sent again because of a failure, by model.
    """

    def __init__(
        self,
        rules: Callable[[], Rules],
        copies: Copies,
        publish: Callable[..., object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.watched: dict[str, dict[str, _Kept]] = {}
        self.opened: dict[str, int] = {}
        self.retried: dict[str, int] = {}
        self._rules = rules
        self._copies = copies
        self._publish = publish
        self._clock = clock
        self._paused: dict[str, float] = {}
        self._restarted: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"<Breakers {sum(map(len, self.watched.values()))} watched>"

    def is_watched(self, model_id: str) -> bool:
        """A request for it is more than passed on: its breakers want to hear of it."""
        return bool(self.watched) and self._copies.replica_id(model_id) in self.watched

    # -- a request -------------------------------------------------------------------------------

    def admit(self, model_id: str) -> None:
        """Before a request: see who may get it.

        Raises:
            Unavailable: the server elsewhere fails, and is not asked for now.
            RateLimited: it has said that it takes nothing for now.
        """
        now = self._clock()
        if self._paused:
            self._refuse_paused(model_id, now)
        if not self.watched:
            return
        group = self._copies.replica_id(model_id)
        if group not in self.watched:
            return
        self._look(group, now)
        upstream = self.watched.get(group, {}).get(UPSTREAM + group)
        if upstream is not None and not b.admits(upstream.breaker, self._rules()):
            raise _refusal(group, upstream.breaker, self._seconds(upstream.breaker, now) or 1.0)
        self._shut_out(group)

    def refusal(self, model_id: str) -> ModelPoolError | None:
        """Why somebody else had better be asked, where there is somebody: all copies of the model
        fail, or its server does. Who asks for just this model is not refused for the former."""
        try:
            self.admit(model_id)
        except ModelPoolError as error:
            return error
        if not self.is_watched(model_id):
            return None
        group = self._copies.replica_id(model_id)
        copies = self._admitted(group)
        if not copies or any(is_admitted for _, is_admitted in copies):
            return None
        reasons = (self.watched[group][WORKER + key].breaker.reason for key, _ in copies)
        text = f"every copy of {group} fails: {'; '.join(reasons)}"
        return Unavailable(text, code="circuit_open", source="worker", retry_after=1)

    def refused(self) -> Mapping[str, str]:
        """Why others had better be asked, by the ids of entries whose workers or servers fail, and
        of models for which one wants a pause."""
        if not self.watched and not self._paused:
            return NOBODY
        names = (*self.watched, *self._paused)
        errors = ((name, self.refusal(name)) for name in names)
        return {name: error.message for name, error in errors if error is not None}

    def began(self, model_id: str, grant: Grant) -> Passed:
        """It was granted that worker."""
        if not self.watched:
            return UNWATCHED
        group = self._copies.replica_id(model_id)
        kept = self.watched.get(group)
        if kept is None:
            return UNWATCHED
        eras = [0, 0]
        for i, name in enumerate((WORKER + grant.key, UPSTREAM + group)):
            found = kept.get(name)
            if found is not None and (i or found.worker_id == grant.worker_id):
                found.breaker = b.began(found.breaker)
                eras[i] = found.breaker.era
        self._shut_out(group)
        return Passed(*eras)

    def answered(
        self, model_id: str, grant: Grant, passed: Passed, status: int, headers: Headers
    ) -> None:
        """Its worker has begun to answer."""
        verdict, who = b.verdict_of(status, headers)
        if (seconds := b.told_pause(status, headers)) > WAITED_FOR_SECONDS:
            self._paused[model_id] = self._clock() + min(seconds, LONGEST_PAUSE_SECONDS)
        if verdict is Verdict.BAD:
            code = dict(headers).get(b.CODE, b"").decode("latin-1")
            why = f"{status} {code}".strip()
        else:
            why = ""
        is_upstream = who == "upstream"
        worker = Verdict.NOTHING if is_upstream else verdict
        upstream = verdict if is_upstream or verdict is Verdict.GOOD else Verdict.NOTHING
        self._ended(model_id, grant, passed, worker, upstream, why)

    def failed(self, model_id: str, grant: Grant, passed: Passed, why: str) -> None:
        """Its worker gave no answer, or broke it off."""
        self._ended(model_id, grant, passed, Verdict.BAD, Verdict.NOTHING, why)

    def count_retry(self, model_id: str) -> None:
        """A request for the model is sent again."""
        self.retried[model_id] = self.retried.get(model_id, 0) + 1

    def left(self, model_id: str, grant: Grant, passed: Passed) -> None:
        """It is over, and says nothing of anybody."""
        self._ended(model_id, grant, passed, Verdict.NOTHING, Verdict.NOTHING, "")

    def _ended(
        self,
        model_id: str,
        grant: Grant,
        passed: Passed,
        worker: Verdict,
        upstream: Verdict,
        why: str,
    ) -> None:
        is_bad = Verdict.BAD in (worker, upstream)
        if not (self.watched or is_bad):
            return
        rules, now = self._rules(), self._clock()
        if rules.failures == 0:
            return
        group = self._copies.replica_id(model_id)
        if group not in self.watched and not is_bad:
            return
        name, above = WORKER + grant.key, UPSTREAM + group
        self._note(group, name, worker, passed.worker, grant.worker_id, why, now, rules)
        self._note(group, above, upstream, passed.upstream, "", why, now, rules)
        self._look(group, now)
        self._shut_out(group)

    def _note(
        self,
        group: str,
        name: str,
        verdict: Verdict,
        era: int,
        worker_id: str,
        why: str,
        now: float,
        rules: Rules,
    ) -> None:
        kept = self.watched.get(group, {}).get(name)
        if kept is None or kept.worker_id != worker_id:
            if verdict is not Verdict.BAD:
                return
            kept = self.watched.setdefault(group, {})[name] = _Kept(Breaker(), worker_id)
            era = 0
        self._set(group, name, kept, b.ended(kept.breaker, verdict, era, now, rules, why))

    # -- what is known ---------------------------------------------------------------------------

    def _look(self, group: str, now: float) -> None:
        """Bring them up to the time, and forget what is of no interest any more."""
        kept, rules = self.watched.get(group, {}), self._rules()
        if rules.failures == 0:  # switched off
            kept.clear()
        for name, each in tuple(kept.items()):
            self._set(group, name, each, b.looked_at(each.breaker, now, rules))
            if each.breaker.is_at_rest:
                del kept[name]
        if not kept and self.watched.pop(group, None) is not None:
            self._copies.shut_out(group, frozenset())

    def _set(self, group: str, name: str, kept: _Kept, breaker: Breaker) -> None:
        former, kept.breaker = kept.breaker, breaker
        if former.state is breaker.state:
            return
        if breaker.state is State.OPEN:
            self.opened[name] = self.opened.get(name, 0) + 1
        self._publish(
            "breaker-changed",
            model_id=group,
            breaker=name,
            state=breaker.state.value,
            previous=former.state.value,
            reason=breaker.reason,
        )
        if breaker.state is State.OPEN and name.startswith(WORKER):
            self._restart_if_only(group, name.removeprefix(WORKER), breaker)

    def _restart_if_only(self, group: str, key: str, breaker: Breaker) -> None:
        now = self._clock()
        if tuple(self._copies.open_copies(group)) != (key,):
            return
        if now - self._restarted.get(key, -RESTART_SECONDS) < RESTART_SECONDS:
            return
        self._restarted[key] = now
        self._copies.restart_copy(key, f"it fails, and there is no other: {breaker.reason}")

    def _shut(self, group: str) -> frozenset[str]:
        return b.shut_out(self._admitted(group))

    def _admitted(self, group: str) -> list[tuple[str, bool]]:
        """The copies that take requests, and whether their breakers let them have some."""
        kept, rules = self.watched.get(group, {}), self._rules()
        copies = []
        for key, worker_id in self._copies.open_copies(group).items():
            found = kept.get(WORKER + key)
            # One with a new worker has not failed yet.
            is_fresh = found is None or found.worker_id != worker_id
            copies.append((key, is_fresh or b.admits(kept[WORKER + key].breaker, rules)))
        return copies

    def _shut_out(self, group: str) -> None:
        self._copies.shut_out(group, self._shut(group))

    def _seconds(self, breaker: Breaker, now: float) -> float | None:
        if breaker.state is not State.OPEN:
            return None
        return max(0.0, breaker.since + self._rules().open_seconds - now)

    def _refuse_paused(self, model_id: str, now: float) -> None:
        until = self._paused.get(model_id)
        if until is None:
            return
        left = until - now
        if left <= WAITED_FOR_SECONDS:
            del self._paused[model_id]
            return
        text = f"the server of {model_id} takes no more requests for {left:.0f} s, as it has said"
        raise RateLimited(f"{text}; it was not asked", source="upstream", retry_after=left)

    # -- for people ------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[View]:
        now, rules = self._clock(), self._rules()
        for group in tuple(self.watched):
            self._look(group, now)
            shut = self._shut(group)
            for name, kept in tuple(self.watched.get(group, {}).items()):
                if name.startswith(WORKER):
                    is_shut = name.removeprefix(WORKER) in shut
                else:
                    is_shut = not b.admits(kept.breaker, rules)
                seconds = self._seconds(kept.breaker, now)
                yield View(name, group, kept.breaker, is_shut, seconds)

    def of(self, model_id: str) -> list[View]:
        """Those that a request for the model would meet."""
        if not self.is_watched(model_id):
            return []
        group = self._copies.replica_id(model_id)
        return [view for view in self if view.model_id == group]

    def pauses(self) -> dict[str, float]:
        """Seconds for which servers elsewhere do not want to be asked, by model."""
        now = self._clock()
        self._paused = {k: at for k, at in self._paused.items() if at > now}
        return {model_id: at - now for model_id, at in self._paused.items()}

    def reset(self, breaker_id: str, reason: str) -> None:
        """Close one, and forget what has failed.

        Raises:
            NotFound: there is none of that id, or nothing has failed there lately.
        """
        for group, kept in self.watched.items():
            if breaker_id in kept:
                found, now = kept[breaker_id], self._clock()
                self._set(group, breaker_id, found, b.reset(found.breaker, reason, now))
                found.breaker = replace(found.breaker, failed=())
                self._restarted.pop(breaker_id.removeprefix(WORKER), None)
                self._look(group, now)
                if group in self.watched:
                    self._shut_out(group)
                return
        text = f"there is no breaker {breaker_id[:200]!r} of which anything is known"
        raise NotFound(f"{text}: GET /breakers lists those that something failed at lately")

    def forget(self, model_id: str) -> None:
        """The model was deleted."""
        self._paused.pop(model_id, None)
        self.retried.pop(model_id, None)
        self.watched.pop(model_id, None)
        # Of those that are well again nothing is watched.
        self.opened.pop(UPSTREAM + model_id, None)
        for name in [n for n in self.opened if _is_copy(n.removeprefix(WORKER), model_id)]:
            del self.opened[name]
        for key in [k for k in self._restarted if _is_copy(k, model_id)]:
            del self._restarted[key]


def _is_copy(key: str, model_id: str) -> bool:
    """Whether it is that of one of the model's copies."""
    return key == model_id or key.rpartition("#")[0] == model_id


def _refusal(group: str, breaker: Breaker, seconds: float) -> Unavailable:
    what = "is being tried again" if breaker.state is State.HALF_OPEN else "is not asked for now"
    text = f"the server of {group} {what}: {breaker.reason}"
    hint = f"it is tried again in {seconds:.0f} s, or POST /breakers/{UPSTREAM}{group}/reset"
    return Unavailable(
        f"{text}; {hint}", code="circuit_open", source="upstream", retry_after=seconds
    )
