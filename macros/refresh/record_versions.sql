{#
    The mart's version, time of refresh and data_through per organization. data_through is the least, over the tables
    whose records the mart counts, of the newest extract time that it holds; parents and control totals do not count.
    Old weeks asked for again (backfills) tell nothing of how new the data are, nor that their engine is alive.

    Arguments:
        is_partial: whether only touched keys were written
#}
{% macro record_versions(is_partial) %}
    {% set own = model_key(this) %}
    {% set counted = [] %}
    {% for parent in lineage(model)["models"]
        if parent.config.meta.fact and parent.config.meta.fact.feed != "control_totals" %}
        {% for node in feed_models(parent.config.meta.fact.feed) %}
            {% set table = feed_source(node) %}
            {% do counted.append("('" ~ table.source_name ~ "', '" ~ table.name ~ "')") %}
        {% endfor %}
    {% endfor %}
    {% set limits = {} %}
    {% for table in lineage(model)["sources"] %}
        {% set limit = table.freshness.error_after if table.freshness else none %}
        {% if limit and limit.count %}
            {% do limits.update({table.source_name: limit.count ~ " " ~ limit.period}) %}
        {% endif %}
    {% endfor %}
    with through as (
        select organization_id, min(extracted_through) as data_through
        from (
            select
                t.organization_id,
                t.engine,
                t.source_table,
                max(t.extracted_through) filter (where not t.is_backfill) as extracted_through
            from metadata.batch_tables as t
            join metadata.applied_batches as a on a.model = '{{ own }}' and a.batch_id = t.batch_id
            {% if counted %}where (t.engine, t.source_table) in ({{ counted | join(", ") }}){% endif %}
            group by t.organization_id, t.engine, t.source_table
        ) as tables
        group by organization_id
    ),

    {# an engine that is declared to send more often than it does makes the mart late, one that is quiet does not #}
    silence as (
        select
            t.organization_id,
            t.engine,
            max(t.landed_at) filter (where not t.is_backfill) + l.freshness_limit as stale_after
        from metadata.batch_tables as t
        join (
            values
            {% for engine, limit in limits.items() %}('{{ engine }}', interval '{{ limit }}'), {% endfor %}
            (null::text, null::interval)
        ) as l (engine, freshness_limit) on l.engine = t.engine
        group by t.organization_id, t.engine, l.freshness_limit
    ),

    stale as (
        select organization_id, min(stale_after) as stale_after from silence group by organization_id
    )

    insert into metadata.data_versions as v (model, organization_id, data_through, stale_after)
    select '{{ own }}', t.organization_id, t.data_through, s.stale_after
    from through as t left join stale as s on s.organization_id = t.organization_id
    on conflict (model, organization_id) do update
    set
        data_through = excluded.data_through,
        stale_after = excluded.stale_after,
        last_refresh_at = excluded.last_refresh_at,
        version = v.version + (
            {% if is_partial %}
                exists (select from pg_temp.touched_keys as k where k.organization_id = v.organization_id)
            {% else %}
                true
            {% endif %}
        )::int;
    {% if parity_metrics(model) and target.name in ["embedded", "prod"] %}
        {# the mart of verdicts is a view: it is as fresh as the marts that write them #}
        insert into metadata.data_versions as v (model, organization_id, data_through, stale_after)
        select 'parity_results', organization_id, data_through, stale_after
        from metadata.data_versions
        where model = '{{ own }}'
        on conflict (model, organization_id) do update
        set
            data_through = excluded.data_through,
            stale_after = excluded.stale_after,
            last_refresh_at = excluded.last_refresh_at,
            version = v.version + 1;
    {% endif %}
    {% if target.name in ["embedded", "prod"] %}
        select pg_notify('oversight_data', '{{ own }}');
    {% endif %}
{% endmacro %}
