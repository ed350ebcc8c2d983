{#
    A mart's part of before_refresh: the keys that changed facts and dimensions touch, keys withheld until now, keys that
    a new control window covers; then out with their rows (kept aside where parity may have to put them back).
#}
{% macro before_mart() %}
    {% set mart = model.config.meta.mart %}
    {% set period = period_column(model) %}
    {% set closed = take_closing() %}
    {{ take_changes() }}
    {% if is_incremental() and mart.refresh == "changed_keys" %}
        {% set key = mart_key(model) %}
        {{ collect_touched_keys(key) }}
        {% if period and closed %}
            delete from pg_temp.touched_keys where {{ period }} < '{{ closed }}';
            delete from metadata.held_keys
            where model = '{{ model_key(this) }}' and (key ->> '{{ period }}')::date < '{{ closed }}';
        {% endif %}
        analyze pg_temp.touched_keys;
        {{ collect_touched_places(key) }}
        {% set where %}
            t.organization_id = k.organization_id
            {% for column in key.grain %} and t.{{ column }} = k.{{ column }}{% endfor %}
        {% endset %}
        {% if mart.parity == "hold" %}
            create temporary table old_rows on commit drop as
            select t.* from {{ this }} as t join pg_temp.touched_keys as k on {{ where }};
        {% endif %}
        create temporary table removed_rows on commit drop as
        with deleted as (
            delete from {{ this }} as t using pg_temp.touched_keys as k where {{ where }}
            returning t.organization_id{% for column in key.grain %}, t.{{ column }}{% endfor %}
        )
        select * from deleted;
    {% elif is_incremental() %}
        {{ keep_closed_rows() }}
        {% if mart.parity == "hold" %}
            create temporary table old_rows on commit drop as select * from {{ this }};
        {% endif %}
        create temporary table removed_rows on commit drop as
        with deleted as (
            delete from {{ this }} returning organization_id, {{ mart_key(model).grain | join(", ") }}
        )
        select * from deleted;
    {% else %}
        {{ keep_closed_rows() }}
        {% if mart.parity == "hold" and load_relation(this) is not none %}
            create temporary table old_rows on commit drop as select * from {{ this }};
        {% endif %}
    {% endif %}
{% endmacro %}
