"""What one connection, and all of them together, may take of this server: numbers, in one place."""

from dataclasses import dataclass

NEVER = float("inf")
MAX_BODY = 16 * 2**20


@dataclass(frozen=True)
class Bounds:
    """Bytes, counts and seconds."""

    connections: int = 16384
    spare: int = 512  # connections beyond these that are told so; all others are cut off
    head: int = 64 * 2**10
    lines: int = 100  # of a head
    head_time: float = 10.0  # from its first byte, or from the connection's beginning
    body_time: float = 30.0
    # of all requests that are not yet answered; as text, one is up to four times as large
    bodies: int = 128 * 2**20
    # requests of one connection, the one that is carried out and those that wait behind it
    pipelined: int = 8
    unread: int = 64 * 2**10  # of an answer; with more than that no further one is begun
    stall: float = 30.0  # in which at least `unread` of an answer is to be read
    unread_in_all: int = 512 * 2**20
    idle: float = 75.0
    # for the client to hang up after the last answer: to close at once may eat that answer
    linger: float = 2.0
    ending: float = 5.0  # for a client that still sends or reads at the server's end
    sweep: float = 1.0  # between two looks at the times above
    # for what is in flight at the end: a little more than PostgreSQL's statement_timeout
    grace: float = 35.0
