{#
    A fact's part of before_refresh: the records that pending batches touch, where they stood, and out with them.
#}
{% macro before_fact() %}
    {% set keys = model.config.meta.fact["keys"] %}
    {{ take_batches(model.config.meta.fact.feed) }}
    {% if is_incremental() %}
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
    {% endif %}
{% endmacro %}
