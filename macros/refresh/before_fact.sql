{#
    A fact's part of before_refresh: the records that pending batches touch, where they stood, and out with them.
#}
{% macro before_fact() %}
    {% set keys = model.config.meta.fact["keys"] %}
    {% set period = period_column(model) %}
    {% set closed = take_closing() %}
    {{ take_batches(model.config.meta.fact.feed) }}
    {% if is_incremental() %}
        {% if period and closed %}
            {# what stands in a closed day stays, whatever its record or its parents say now #}
            delete from pg_temp.touched_records
            where record_key in (
                select record_key from {{ this }}
                where
                    record_key = any(array(select record_key from pg_temp.touched_records))
                    and {{ period }} < '{{ closed }}'
            );
            analyze pg_temp.touched_records;
        {% endif %}
        create temporary table touched_places on commit drop as
        select distinct organization_id, {{ keys | join(", ") }}
        from {{ this }}
        where record_key = any(array(select record_key from pg_temp.touched_records));
        create temporary table removed_rows on commit drop as
        with deleted as (
            delete from {{ this }}
            where record_key = any(array(select record_key from pg_temp.touched_records))
            returning record_key
        )
        select record_key from deleted;
    {% else %}
        {{ keep_closed_rows() }}
    {% endif %}
{% endmacro %}
