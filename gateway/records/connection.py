"""What this room's functions run on: a connection of one's own, or one lent by a pool. The caller bounds the call."""

from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

Connection: TypeAlias = "asyncpg.Connection[Any] | PoolConnectionProxy[Any]"

Pool: TypeAlias = "asyncpg.Pool[Any]"
"""Where connections are lent from."""

AWAY = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)
"""What PostgreSQL, or the way to it, raises when it is gone, going or late. The third: a connection that was cut while
it was being given back is lent once more before the driver notices."""
