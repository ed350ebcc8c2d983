"""A PostgreSQL 15 of the tests' own that runs pg_cron, where its package is installed."""

from __future__ import annotations

from clusters import Cluster, start_cluster, stop_cluster
from warehouse import migrate, server, server_user
from warehouse.settings import Settings

HOME = "cron_home"
"""The database in which pg_cron works."""
_CONFIGURATION = f"""
shared_preload_libraries = 'pg_cron'
cron.database_name = '{HOME}'
cron.use_background_workers = on
"""


def start_cron_cluster() -> Cluster | str:
    """The server with pg_cron in the migrated database `cron_home`, or why there is none."""
    cluster = start_cluster("15")
    if cluster is None:
        return "PostgreSQL 15 is not installed"
    try:
        if not _is_installed(cluster):
            stop_cluster(cluster)
            return "pg_cron is not installed (Debian: postgresql-15-cron)"
        server.stop(cluster.settings, programs=cluster.programs)
        data = server_user.existing_data_dir(cluster.settings.home)
        with (data / "postgresql.conf").open("a", encoding="utf-8") as conf:
            conf.write(_CONFIGURATION)
        server.start(cluster.settings, programs=cluster.programs)
        cluster.run(f"create database {HOME}")
        cluster.run("create extension pg_cron", name=HOME)
        migrate.migrate(cluster.settings_for(HOME))
    except BaseException:
        stop_cluster(cluster)
        raise
    return cluster


def plain_warehouse(cluster: Cluster, login: str) -> Settings:
    """A migrated database that a login without more than CREATEROLE owns."""
    cluster.run(f"create role {login} login createrole")
    settings = cluster.settings_for(cluster.create_database(owner=login), login)
    migrate.migrate(settings)
    return settings


def _is_installed(cluster: Cluster) -> bool:
    connection = cluster.connect()
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                "select exists (select from pg_available_extensions where name = 'pg_cron')"
            )
            row = cursor.fetchone()
            return bool(row and row[0])
    finally:
        connection.close()
