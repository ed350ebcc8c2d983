{#
    A fact's part of after_refresh: the new places of the touched records join the old ones.
#}
{% macro after_fact() %}
    {% set keys = model.config.meta.fact["keys"] %}
    {% set period = period_column(model) %}
    {% set closed = take_closing() %}
    {% if not is_incremental() %}
        {{ restore_closed_rows() }}
    {% else %}
        {% if period and closed %}
            {# what landed for a day that was closed since comes too late #}
            delete from {{ this }}
            where
                record_key = any(array(select record_key from pg_temp.touched_records))
                and {{ period }} < '{{ closed }}';
        {% endif %}
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
