"""Sessions in Redis, for several gateways, and for longer than any of them: an optional extra, `redis`."""

import math
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import RedisError

from seqserve.service import errors
from seqserve.service.core.sessions.store import Kept

PREFIX = "seqserve:session:"
NUMBER, DATA = "number", "data"
CONNECTIONS = 64
SECONDS = 5.0
"""For a connection to be made or to become free, and for a command."""
RETRY_SECONDS = 1.0
COMPARE_AND_SET = f"""
local number = redis.call('HGET', KEYS[1], '{NUMBER}')
if (number or '') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], '{NUMBER}', ARGV[2], '{DATA}', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
"""
"""Redis runs a script whole: no other command comes between."""


class RedisStore:
    """Sessions as hashes of a number and bytes, each with its end; connections are made when they are needed.

    Args:
        url: `redis://` or `rediss://`, as redis-py has it; options of TLS and the password may be in it.
        seconds: after which one is forgotten that has not changed.
        password: instead of the URL's; empty: none.

    Raises:
        ValueError: the URL is none.
    """

    def __init__(self, url: str, seconds: float, password: str = "") -> None:
        own: dict[str, Any] = {"password": password} if password else {}
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS,
            timeout=SECONDS,
            socket_timeout=SECONDS,
            socket_connect_timeout=SECONDS,
            **own,
        )
        self._redis = Redis(connection_pool=pool)
        self._put = self._redis.register_script(COMPARE_AND_SET)
        self._milliseconds = math.ceil(seconds * 1000)

    async def get(self, id: str) -> Kept | None:
        """Return what is kept; None: nothing. Raises SessionsUnavailable."""
        number, data = await _asked(self._redis.hmget(PREFIX + id, [NUMBER, DATA]))
        return None if number is None or data is None else Kept(int(number), data)

    async def put(self, id: str, owner: str, kept: Kept, expected: int | None) -> bool:
        """Keep a session; see `Store`. Raises SessionsUnavailable, and it may be kept all the same."""
        arguments = ["" if expected is None else expected, kept.number, kept.data, self._milliseconds]
        return bool(await _asked(self._put(keys=[PREFIX + id], args=arguments)))

    async def delete(self, id: str) -> None:
        """Forget a session. Raises SessionsUnavailable."""
        await _asked(self._redis.delete(PREFIX + id))

    async def close(self) -> None:
        """Close every connection."""
        await self._redis.aclose()
        await self._redis.connection_pool.disconnect()


async def _asked(answer: Any) -> Any:
    """Return what Redis answers; raises SessionsUnavailable, without Redis' words, which may tell of it."""
    try:
        return await answer
    except (RedisError, OSError) as error:
        message = f"the store of sessions does not answer ({type(error).__name__})"
        raise errors.SessionsUnavailable(message, retry_after=RETRY_SECONDS) from error
