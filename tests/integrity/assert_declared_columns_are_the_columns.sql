-- What the docs, the API and the catalogue say of a table is what the table is: returns columns
-- that exist but are not declared in YAML, and declared ones that do not exist. Tables that are
-- not built yet are left out.
{{ config(severity="error") }}

-- depends_on: {{ ref("daily_metrics") }}
-- depends_on: {{ ref("weekly_partner_performance") }}
-- depends_on: {{ ref("parity_results") }}
{% set columns = [] %}
{% if execute %}
    {% for node in graph.nodes.values()
        if node.resource_type in ["model", "seed", "snapshot"] and node.config.materialized != "ephemeral" %}
        {% for column in node.columns.values() %}
            {% do columns.append(
                "('" ~ node.schema ~ "', '" ~ (node.alias or node.name) ~ "', '" ~ column.name ~ "')"
            ) %}
        {% endfor %}
    {% endfor %}
{% endif %}

with declared (schema_name, table_name, column_name) as (
    values {{ columns | join(", ") if columns else "('', '', '')" }}
),

existing as (
    select
        n.nspname as schema_name,
        c.relname as table_name,
        a.attname as column_name
    from pg_catalog.pg_class as c
    inner join pg_catalog.pg_namespace as n on c.relnamespace = n.oid
    inner join pg_catalog.pg_attribute as a on c.oid = a.attrelid
    where
        a.attnum > 0 and not a.attisdropped
        and (n.nspname, c.relname) in (
            select
                d.schema_name,
                d.table_name
            from declared as d
        )
)

select
    schema_name,
    table_name,
    column_name,
    declared.column_name is not null as is_declared
from declared
full join existing using (schema_name, table_name, column_name)
where
    (declared.column_name is null or existing.column_name is null)
    and (schema_name, table_name) in (
        select
            e.schema_name,
            e.table_name
        from existing as e
    )
