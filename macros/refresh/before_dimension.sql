{#
    A dimension's part of before_refresh: the ids whose record has a new version, or that facts began or ceased to
    mention; their rows are kept aside, to tell after the refresh which of them really changed.
#}
{% macro before_dimension() %}
    {% set id = model.config.meta.dimension.id %}
    {% set feed = model.config.meta.dimension.feed %}
    {{ take_batches(feed) }}
    {{ take_changes() }}
    {% if is_incremental() %}
        create temporary table touched_ids on commit drop as
        select organization_id, {{ id }} from {{ this }}
        where record_key = any(array(select record_key from pg_temp.touched_records))
        {% for node in feed_models(feed) %}
            union
            select organization_id, {{ id }} from {{ node.relation_name }}
            where record_key = any(array(select record_key from pg_temp.touched_records))
        {% endfor %}
        union
        select k.organization_id, k.key ->> '{{ id }}'
        from metadata.touched_keys as k
        join pg_temp.taken_changes as c on c.change_id = k.change_id
        where k.key ->> '{{ id }}' is not null
        {% for parent in lineage(model)["models"] %}
            {% if parent.config.meta.fact and id in parent.config.meta.fact["keys"] %}
                union
                select organization_id, {{ id }} from {{ parent.relation_name }}
                where exists (
                    select from pg_temp.taken_changes where is_full and model = '{{ model_key(relation_of(parent)) }}'
                ) and {{ id }} is not null
            {% endif %}
        {% endfor %}
        union
        select organization_id, {{ id }} from {{ this }}
        where exists (select from pg_temp.taken_changes where is_full);
        analyze pg_temp.touched_ids;
        create temporary table old_rows on commit drop as
        select t.* from {{ this }} as t join pg_temp.touched_ids as k using (organization_id, {{ id }});
        create temporary table removed_rows on commit drop as
        with deleted as (
            delete from {{ this }} as t using pg_temp.touched_ids as k
            where t.organization_id = k.organization_id and t.{{ id }} = k.{{ id }}
            returning t.organization_id, t.{{ id }}
        )
        select organization_id, {{ id }} from deleted;
    {% endif %}
{% endmacro %}
