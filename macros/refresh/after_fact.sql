{#
    A fact's part of after_refresh: the new places of the touched records join the old ones.
#}
{% macro after_fact() %}
    {% set keys = model.config.meta.fact["keys"] %}
    {% if is_incremental() %}
        insert into pg_temp.touched_places
        select distinct organization_id, {{ keys | join(", ") }}
        from {{ this }}
        where record_key = any(array(select record_key from pg_temp.touched_records));
    {% endif %}
    {{ record_change(keys) }}
    {{ record_batches() }}
    {% set written %}
        {{ this }}
        {% if is_incremental() %}
            where record_key = any(array(select record_key from pg_temp.touched_records))
        {% endif %}
    {% endset %}
    {{ record_rows(written, ["record_key"]) }}
{% endmacro %}
