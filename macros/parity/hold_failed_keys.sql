{#
    `parity: hold`: where any key of an organization failed, none of its keys of this refresh is published; its last good
    rows are put back and the keys are kept for the next refresh. Other organizations' rows go on being published.

    Arguments:
        is_partial: whether only touched keys were written
#}
{% macro hold_failed_keys(is_partial) %}
    {% set own = model_key(this) %}
    {% set columns = model.columns.keys() | join(", ") %}
    {% set grain = mart_key(model).grain %}
    create temporary table held_organizations on commit drop as
    select organization_id from metadata.parity_verdicts
    where
        mart = '{{ own }}' and verdict = 'failed'
        and (organization_id, partner_id) in (select organization_id, partner_id from pg_temp.checked_keys)
        {% if is_partial %}
            and (
                period is null
                or (organization_id, partner_id, period) in (select * from pg_temp.checked_keys)
            )
        {% endif %}
    group by organization_id;
    delete from metadata.held_keys as h
    where h.model = '{{ own }}' {% if is_partial %}and h.organization_id in (
        select organization_id from pg_temp.checked_keys
    ) {% endif %} and h.organization_id not in (select organization_id from pg_temp.held_organizations);
    insert into metadata.held_keys (model, organization_id, key)
    select distinct '{{ own }}', k.organization_id, {{ key_object(grain, "k") }}
    from pg_temp.checked_keys as k
    where k.organization_id in (select organization_id from pg_temp.held_organizations)
    on conflict do nothing;
    {% set has_old_rows = run_query("select to_regclass('pg_temp.old_rows') is not null").rows[0][0] %}
    {% if has_old_rows %}
        {# a key that only the old rows have is put back with them, and must go when parity is well again #}
        insert into metadata.held_keys (model, organization_id, key)
        select distinct '{{ own }}', o.organization_id, {{ key_object(grain, "o") }}
        from pg_temp.old_rows as o
        where o.organization_id in (select organization_id from pg_temp.held_organizations)
        on conflict do nothing;
    {% endif %}
    delete from {{ this }} as t
    using pg_temp.checked_keys as k
    where
        t.organization_id in (select organization_id from pg_temp.held_organizations)
        and t.organization_id = k.organization_id
        {% for column in grain %}and t.{{ column }} = k.{{ column }} {% endfor %};
    {% if has_old_rows %}
        insert into {{ this }} ({{ columns }})
        select {{ columns }} from pg_temp.old_rows
        where organization_id in (select organization_id from pg_temp.held_organizations);
    {% endif %}
{% endmacro %}
