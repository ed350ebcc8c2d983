"""A peer: FastAPI over asyncpg, as good as a short program can be made. Served by uvicorn.

It has what the comparison asks for: a key, checked parameters, row-level security by the caller's
scope, JSON that PostgreSQL builds, prepared statements (asyncpg keeps them). It knows no freshness,
parity, pages, ETags or limits. The scope is set for the transaction, as a pooled connection asks
for; with PEER_SESSION it is set for the session instead, which saves two round trips and leaves one
caller's scope on the connection until the next one sets his.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date
from typing import Annotated, Any

import asyncpg
from fastapi import FastAPI, Header, HTTPException, Response

KEYS = {os.environ["PEER_KEY"]: os.environ["PEER_ORGANIZATION"]}
IS_SESSION = bool(os.environ.get("PEER_SESSION"))
CONNECTIONS = 4
_SCOPE = (
    "select set_config('oversight.scope_organization', $1, $2),"
    " set_config('oversight.scope_partner', '{*}', $2)"
)
_READ = """
select coalesce(json_agg(r), '[]')::text
from (
    select day, partner_id, spend, revenue, margin, events, impressions, clicks
    from reporting.daily_metrics
    where organization_id = $1 and partner_id = $2 and day between $3 and $4
    order by organization_id, day, partner_id
    limit 500
) as r
"""


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """A pool per worker, whose sessions are the reader's and need no reset."""

    async def keep(_: Any) -> None:
        return None

    app.state.pool = await asyncpg.create_pool(
        os.environ["PEER_DSN"],
        min_size=CONNECTIONS,
        max_size=CONNECTIONS,
        server_settings={"role": "oversight_reader", "default_transaction_read_only": "on"},
        reset=keep,
    )
    yield
    await app.state.pool.close()


app = FastAPI(lifespan=lifespan)


async def daily_metrics(
    partner_id: str, first: date, last: date, authorization: Annotated[str, Header()]
) -> Response:
    """One partner's days."""
    organization = KEYS.get(authorization.removeprefix("Bearer "))
    if organization is None:
        raise HTTPException(401)
    asked = organization, partner_id, first, last
    async with app.state.pool.acquire() as connection:
        if IS_SESSION:
            await connection.fetchrow(_SCOPE, f"{{{organization}}}", False)
            rows = await connection.fetchval(_READ, *asked)
        else:
            async with connection.transaction():
                await connection.fetchrow(_SCOPE, f"{{{organization}}}", True)
                rows = await connection.fetchval(_READ, *asked)
    return Response(f'{{"data":{rows}}}', media_type="application/json")


app.add_api_route("/daily-metrics", daily_metrics)
