{#
    A dimension's part of after_refresh: only rows that came out different are a change for the marts.
#}
{% macro after_dimension() %}
    {% set keys = model.config.meta.dimension["keys"] %}
    {% set id = model.config.meta.dimension.id %}
    {% if is_incremental() %}
        create temporary table touched_places on commit drop as
        with new_rows as (
            select t.* from {{ this }} as t join pg_temp.touched_ids as k using (organization_id, {{ id }})
        )
        select organization_id, {{ keys | join(", ") }}
        from (
            (select * from pg_temp.old_rows except select * from new_rows)
            union
            (select * from new_rows except select * from pg_temp.old_rows)
        ) as changed;
    {% endif %}
    {{ record_change(keys) }}
    {{ record_batches() }}
    {{ record_taken_changes() }}
    {% set written %}
        {{ this }}
        {% if is_incremental() %} join pg_temp.touched_ids using (organization_id, {{ id }}) {% endif %}
    {% endset %}
    {{ record_rows(written, ["organization_id", id]) }}
{% endmacro %}
