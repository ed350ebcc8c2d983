"""A peer: FastAPI over asyncpg, as good as a short program can be made. Served by uvicorn.

It has what the comparison asks for: a key, checked parameters, row-level security by the caller's
scope, JSON that PostgreSQL builds, prepared statements (asyncpg keeps them). It knows no freshness,
parity, pages or limits. It sets the scope for the session with each request, in one round trip less
than a transaction would need.
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
CONNECTIONS = 4
_SCOPE = (
    "select set_config('oversight.scope_organization', $1, false),"
    " set_config('oversight.scope_partner', '{*}', false)"
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
    async with app.state.pool.acquire() as connection:
        await connection.fetchrow(_SCOPE, f"{{{organization}}}")
        rows = await connection.fetchval(_READ, organization, partner_id, first, last)
    return Response(f'{{"data":{rows}}}', media_type="application/json")


app.add_api_route("/daily-metrics", daily_metrics)
