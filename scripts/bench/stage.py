"""What every suite gets: how long, how often, where; and the paired rounds they all run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench import machine
from bench.figures import Conditions, Kind, Row, Versus

Measure = Callable[[], float]
# Name of the rival, and how to compare.
Against = tuple[str, Kind]


@dataclass
class Stage:
    """``deadline`` is a reading of ``time.monotonic``: no round begins that would miss it."""

    seconds: float
    rounds: int
    quick: bool
    folder: Path
    cache: Path
    deadline: float
    say: Callable[[str], None]
    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        """A remark that stands under the table as well."""
        if text and text not in self.notes:
            self.notes.append(text)
            self.say(text)

    def log(self, name: str) -> Path:
        """Where a child writes what it has to say."""
        return self.folder / f"{name}.log"

    def paired(self, title: str, systems: Mapping[str, Measure], rounds: int = 0) -> Samples:
        """Measure every system once a round, so that each round makes a pair of any two.

        Every other round goes backwards, so that a drift of the machine favours nobody. Between
        rounds, when nothing of ours works, it is seen what others do.
        """

        def round_of(turn: int, of: int) -> Mapping[str, float]:
            names = list(systems) if turn % 2 == 0 else list(systems)[::-1]
            found = {}
            for name in names:
                self.say(f"{title}: {name}, round {turn + 1} of {of}")
                found[name] = systems[name]()
            return {name: found[name] for name in systems}

        return self._rounds(title, round_of, rounds or self.rounds)

    def together(self, title: str, measure: Callable[[], Mapping[str, float]]) -> Samples:
        """The same of what measures all systems at once, in turn by itself."""

        def round_of(turn: int, of: int) -> Mapping[str, float]:
            self.say(f"{title}, round {turn + 1} of {of}")
            return measure()

        return self._rounds(title, round_of, self.rounds)

    def _rounds(
        self, title: str, round_of: Callable[[int, int], Mapping[str, float]], wanted: int
    ) -> Samples:
        rounds: list[Mapping[str, float]] = []
        busy: list[float] = []
        before = machine.processor_times()
        for turn in range(wanted):
            began = time.monotonic()
            busy.append(machine.busy_share())
            rounds.append(round_of(turn, wanted))
            now = time.monotonic()
            if turn + 1 < wanted and now + (now - began) > self.deadline:
                self.note(f"{title}: cut short after {turn + 1} of {wanted} rounds, time is over")
                break
        steal = machine.stolen_share(before, machine.processor_times())
        conditions = Conditions(round(statistics.fmean(busy), 4), round(steal, 4))
        samples = {name: tuple(found[name] for found in rounds) for name in rounds[0]}
        return Samples(samples, conditions)


@dataclass(frozen=True)
class Samples:
    """The samples of every system, by its name; those with the same index are a pair."""

    of: Mapping[str, tuple[float, ...]]
    conditions: Conditions | None = None

    def row(
        self,
        place: tuple[str, str],
        system: str,
        unit: str,
        against: Sequence[Against] = (),
        *,
        ours: bool = True,
    ) -> Row:
        """A line of the report: suite and figure, system, unit; and what it is held against, as
        far as that was measured."""
        versus = tuple(
            Versus(name, self.of[name], kind) for name, kind in against if name in self.of
        )
        return Row(*place, system, unit, self.of[system], versus, ours, self.conditions)


def joined(halves: Sequence[Samples]) -> Samples:
    """PURE. The rounds of several, one after the other, under the worst of their conditions."""
    known = [half.conditions for half in halves if half.conditions is not None]
    conditions = (
        Conditions(max(c.busy for c in known), max(c.steal for c in known)) if known else None
    )
    of = {name: tuple(x for half in halves for x in half.of[name]) for name in halves[0].of}
    return Samples(of, conditions)
