"""PURE. All targets, in one table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bench import names as n
from bench.figures import Key, Kind, Row

Bound = Literal[">=", "<="]
AT_LEAST: Bound = ">="
AT_MOST: Bound = "<="


@dataclass(frozen=True)
class Target:
    """A bound on a row: on how it compares with ``rival``, or on its own value without one.

    ``limit`` is a factor of the rival's, or in the row's unit if ``kind`` is ``added`` or nobody is
    named.
    """

    suite: str
    figure: str
    system: str
    bound: Bound
    limit: float
    rival: str = ""
    kind: Kind = "ratio"

    @property
    def key(self) -> Key:
        """The row that it is of."""
        return (self.suite, self.figure, self.system)

    def is_of(self, row: Row) -> bool:
        """Is that the row, and was it held against the rival?"""
        held = not self.rival or row.held_against(self.rival, self.kind) is not None
        return self.key == row.key and held

    def text(self, unit: str) -> str:
        """``>= 0.6x nginx``, ``<= 0.15 ms added``, ``<= 64 KiB``."""
        if not self.rival:
            return f"{self.bound} {self.limit:g} {unit}"
        if self.kind == "added":
            return f"{self.bound} {self.limit:g} {unit} added"
        return f"{self.bound} {self.limit:g}x {self.rival}"


TARGETS = (
    Target(n.RELAY, n.REQUESTS, n.GATEWAY, ">=", 0.6, n.NGINX),
    Target(n.RELAY, n.REQUESTS, n.FRONT, ">=", 0.5, n.NGINX),
    Target(n.RELAY, n.REQUESTS, n.FRONT_TOGETHER, ">=", 0.2, n.NGINX),
    Target(n.RELAY, n.REQUESTS, n.WHOLE, ">=", 0.3, n.NGINX),
    Target(n.RELAY, n.REQUESTS, n.WHOLE_TOGETHER, ">=", 0.15, n.NGINX),
    Target(n.RELAY, n.MEDIAN, n.GATEWAY, "<=", 0.15, n.UPSTREAM, "added"),
    Target(n.RELAY, n.MEDIAN, n.WHOLE, "<=", 0.35, n.UPSTREAM, "added"),
    Target(n.RELAY, n.MEDIAN, n.WHOLE_TOGETHER, "<=", 0.5, n.UPSTREAM, "added"),
    Target(n.RELAY, n.SLOWEST, n.GATEWAY, "<=", 2.0, n.NGINX),
    Target(n.RELAY, n.STREAMS, n.GATEWAY, ">=", 0.98, n.NGINX),
    Target(n.MEMORY, n.PER_STREAM, n.GATEWAY, "<=", 64),
    Target(n.MEMORY, n.PER_STREAM, n.FRONT, "<=", 64),
    *(
        Target(n.CATALOG, figure, n.of_size(n.SIZES[-1]), "<=", 1.2, n.of_size(n.SIZES[0]))
        for figure in (n.LOOK_UP, n.ADMISSION, n.PAGE, n.SCRAPE)
    ),
    *(
        Target(n.TOKENS, n.at_once(streams), system, ">=", limit, n.BARE)
        for streams in (1, 8, 16)
        for system, limit in ((n.WORKER_PORT, 0.98), (n.GATEWAY, 0.97))
    ),
    *(
        Target(n.COLD, figure, system, AT_MOST, limit, rival)
        for system, rival in ((n.GATEWAY, n.BARE), (n.NATIVE_GATEWAY, n.NATIVE_BARE))
        for figure, limit in ((n.FIRST_TOKEN, 0.7), (n.SWAP, 0.9))
    ),
    # Of the same binary; the wheel's is another build.
    *(
        Target(n.COLD, figure, n.NATIVE_GATEWAY, AT_MOST, 1.0, n.ROUTER)
        for figure in (n.FIRST_TOKEN, n.SWAP)
    ),
    *(
        Target(n.CONCURRENCY, figure, n.ADAPTIVE, bound, limit, n.BEST_FIXED)
        for workload in (n.LINEAR, n.COLLAPSING, n.FLAT)
        for figure, bound, limit in (
            (n.served(workload), AT_LEAST, 0.95),
            # The wait for a place included, which in a closed loop is most of it.
            (n.first_tokens(workload), AT_MOST, 1.15),
        )
    ),
    Target(n.SPECULATION, n.REPEATED, n.NGRAM_MAP_K, ">=", 1.5, n.NO_SPECULATION),
    Target(n.SPECULATION, n.FORESEEN, n.DRAFTED, ">=", 1.5, n.NO_SPECULATION),
    Target(n.OBSERVED, n.REQUESTS, n.FACTS, ">=", 0.95, n.UNOBSERVED),
    Target(n.OBSERVED, n.REQUESTS, n.TRACED, ">=", 0.8, n.UNOBSERVED),
    Target(n.VIEW, n.FIRST_VIEW, n.WEB_PAGE, "<=", 500),
    Target(n.VIEW, n.FETCHED, n.WEB_PAGE, "<=", 300),
    *(
        Target(n.SURFACES, n.of_request(kind, way), api, AT_MOST, limit, n.CHAT_API, "added")
        for kind, asked, limit in (
            # No more than chat completions, that is: than can be told apart from them.
            (n.RELAYED, n.RELAYED_APIS, 0.05),
            (n.TRANSLATED, n.TRANSLATED_APIS, 0.3),
            (n.TRANSLATED_TOGETHER, n.TOGETHER_APIS, 0.3),
        )
        for way in (n.WORKER_PORT, n.GATEWAY)
        for api in asked
    ),
    *(
        # 2 % of the thousandth of a second that a token has, were it all taken from the engine.
        Target(n.SURFACES, n.spent_on_token(way), api, AT_MOST, 20, n.CHAT_API, "added")
        for way in (n.WORKER_PORT, n.GATEWAY)
        for api in n.STREAMED_APIS
    ),
    *(Target(n.SURFACES, n.at_once(1), api, AT_LEAST, 0.98, n.CHAT_API) for api in n.CHATTED_APIS),
    Target(n.IDLE, n.PROCESSOR, n.MANAGER, "<=", 20),
    Target(n.IDLE, n.RESIDENT_BEATS, n.MANAGER, "<=", 100),
    Target(n.IDLE, n.RESIDENT, n.OVERHEAD, "<=", 50),
)


def targets_of(row: Row) -> list[Target]:
    """What is wanted of a row, as far as it was held against the rivals that are named."""
    return [target for target in TARGETS if target.is_of(row)]
