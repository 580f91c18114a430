"""How an engine's calls are carried out: on a session of the pool, and once more when one surely did nothing."""

from collections.abc import Hashable, Sequence
from typing import Any

import psycopg2

from server.engines.errors import EngineError
from server.engines.postgres.driven import Rows
from server.engines.postgres.failures import did_not_happen, problem
from server.engines.postgres.pool import Pool

_ATTEMPTS = 3


def columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    """Return the columns of some rows, of which there is at least one."""
    return [list(column) for column in zip(*rows, strict=True)]


class Calls:
    """Carries statements out; the engine's verbs are made of it.

    A topic is four users of the pool: who waits for its lock must not keep those from their work who need none; acks,
    of which one may wait for another, must not keep it from being read; and workers, of whom one may wait for another,
    must not keep what is done from being acknowledged.
    """

    def __init__(self, dsn: str, pool_size: int, patience: float) -> None:
        """Open nothing yet. `patience` is how long, in seconds, a call waits for a free connection."""
        self._pool = Pool(dsn, pool_size, patience)

    async def _read(self, sql: str, topic: str, *values: Any) -> tuple[Any, ...]:
        return (await self._rows(sql, [topic, *values], (topic, "read"), writes=False))[0]

    async def _move(self, sql: str, topic: str, *values: Any) -> tuple[Any, ...]:
        return (await self._rows(sql, [topic, *values], (topic, "move"), writes=True))[0]

    async def _write(self, sql: str, topic: str, *values: Any) -> tuple[Any, ...]:
        return (await self._rows(sql, [topic, *values], (topic, "write"), writes=True))[0]

    async def _work(self, sql: str, topic: str, *values: Any) -> tuple[Any, ...]:
        return (await self._rows(sql, [topic, *values], (topic, "work"), writes=True))[0]

    async def _rows(
        self, sql: str, values: Sequence[Any], user: Hashable = None, *, writes: bool
    ) -> Rows:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return await self._pool.run(sql, values, user)
            except psycopg2.Error as error:
                if did_not_happen(error) and attempt < _ATTEMPTS:
                    continue
                raise problem(error, writes=writes) from error
            except UnicodeEncodeError as error:
                detail = "text cannot hold half a surrogate pair"
                raise EngineError("invalid_request", detail) from error
            except ValueError as error:  # psycopg2 refuses NUL in text before anything is sent
                raise EngineError("invalid_request", "text cannot hold \\u0000") from error
        raise AssertionError("the last attempt returns or raises")
