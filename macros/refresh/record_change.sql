{#
    Tells the marts what changed: the keys in the temporary table touched_places, or everything after a full build.

    Arguments:
        keys: names of the key columns, without organization_id
#}
{% macro record_change(keys) %}
    {% if not takers(model) %}
        {# nobody to tell #}
    {% elif is_incremental() %}
        with change as (
            insert into metadata.changes (model)
            select '{{ model_key(this) }}' where exists (select from pg_temp.touched_places)
            returning change_id
        )
        insert into metadata.touched_keys (change_id, organization_id, key)
        select distinct c.change_id, p.organization_id, {{ key_object(keys, "p") }}
        from change as c cross join pg_temp.touched_places as p;
    {% else %}
        insert into metadata.changes (model, is_full) values ('{{ model_key(this) }}', true);
    {% endif %}
{% endmacro %}
