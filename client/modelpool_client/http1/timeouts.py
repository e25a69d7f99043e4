"""PURE. How long a server waits for its clients."""

from __future__ import annotations

from dataclasses import dataclass

# As nginx has it, for each of its three timeouts.
DEFAULT_TIMEOUT_SECONDS = 60.0
DEFAULT_PING_SECONDS = 5.0
# Deadlines are looked at so often that none is missed by more than this part of the shortest.
PARTS = 8
LONGEST_PERIOD_SECONDS = 5.0


@dataclass(frozen=True)
class Timeouts:
    """Seconds; the first three are nginx's, by its names.

    Attributes:
        client_header: for the head of a request, from the connection's begin or the last answer's
            first byte after it on.
        client_body: between two parts of a body.
        send: in which a client must take something of what is sent to it.
        stream_ping: after so much silence a stream that waits gets a comment.
    """

    client_header: float = DEFAULT_TIMEOUT_SECONDS
    client_body: float = DEFAULT_TIMEOUT_SECONDS
    send: float = DEFAULT_TIMEOUT_SECONDS
    stream_ping: float = DEFAULT_PING_SECONDS

    @property
    def period(self) -> float:
        """Seconds between two looks at every connection."""
        shortest = min(self.client_header, self.client_body, self.send, self.stream_ping)
        return min(LONGEST_PERIOD_SECONDS, shortest / PARTS)
