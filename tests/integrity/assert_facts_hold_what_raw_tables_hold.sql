-- A fact that is empty while its raw tables are not means that dbt is shut out of them by row-
-- level security: it then reads nothing, raises nothing, and every other test passes. Returns the
-- facts concerned. A raw table may be empty once retention has taken rows of it.
{{ config(severity="error") }}

-- depends_on: {{ ref("fact_spend") }}
-- depends_on: {{ ref("fact_events") }}
-- depends_on: {{ ref("fact_control_totals") }}
{% set checks = [] %}
{% if execute %}
    {% for fact in graph.nodes.values() if fact.resource_type == "model" and fact.config.meta.fact %}
        {% for feed in feed_models(fact.config.meta.fact.feed) %}
            {% set table = feed_source(feed) %}
            {% do checks.append(
                "select '" ~ fact.name ~ "' as fact, '" ~ table.identifier ~ "' as raw_table where exists ("
                ~ "select from metadata.batch_tables as b join metadata.applied_batches as a using (batch_id) "
                ~ "where a.model = '" ~ model_key(relation_of(fact)) ~ "' and b.engine = '" ~ table.source_name
                ~ "' and b.source_table = '" ~ table.name ~ "' and b.accepted > b.voided) and not exists ("
                ~ "select from " ~ table.relation_name ~ ") and not exists ("
                ~ "select from metadata.retired as r where r.deleted_at is not null and r.table_name = '"
                ~ table.schema ~ "." ~ table.identifier ~ "')"
            ) %}
        {% endfor %}
    {% endfor %}
{% endif %}
{{ checks | join(" union all ") if checks else "select 1 as nothing where false" }}
