"""A peer: Datasette on SQLite, one prepared query over an immutable file. Served by uvicorn.

It has no row-level security: the organization is written into its query, and no key is asked for.
"""

from __future__ import annotations

import os
from typing import Any

from datasette.app import Datasette

_READ = """
select day, partner_id, spend, revenue, margin, events, impressions, clicks
from daily_metrics
where organization_id = '{organization}' and partner_id = :partner_id
    and day between :first and :last
order by day
"""


def make() -> Any:
    """The ASGI application of one worker."""
    path = os.environ["PEER_SQLITE"]
    query = _READ.format(organization=os.environ["PEER_ORGANIZATION"])
    return Datasette(
        immutables=[path],
        settings={"num_sql_threads": 4, "default_cache_ttl": 0, "max_returned_rows": 1000},
        metadata={"databases": {"marts": {"queries": {"daily_metrics": {"sql": query}}}}},
    ).app()
