{#
    Compares what this refresh wrote with the control totals, in the mart's own transaction, so that rows and verdicts
    are never seen apart; keeps the newest verdicts and the history of their changes. With `parity: hold` the keys of an
    organization that failed are put back as they were.

    Arguments:
        is_partial: whether only touched keys were written
#}
{% macro check_parity(is_partial) %}
    {% set period = parity_period(model) %}
    {% set own = model_key(this) %}
    create temporary table checked_keys on commit drop as
    {% if is_partial %}
        select organization_id, partner_id, {{ period }} from pg_temp.touched_keys;
    {% else %}
        select * from {{ all_parity_keys(model) }};
    {% endif %}
    analyze pg_temp.checked_keys;
    create temporary table new_verdicts on commit drop as {{ parity_comparison(model, "pg_temp.checked_keys") }};
    insert into metadata.parity_history
        (organization_id, mart, partner_id, period, metric, old_verdict, new_verdict, mart_value, control_value)
    select
        n.organization_id, n.mart, n.partner_id, n.period, n.metric, v.verdict, n.verdict, n.mart_value, n.control_value
    from pg_temp.new_verdicts as n
    left join metadata.parity_verdicts as v using (organization_id, mart, partner_id, period, metric)
    where n.verdict is distinct from coalesce(v.verdict, case when n.verdict = 'failed' then '' else n.verdict end);
    delete from metadata.parity_verdicts as v
    {% if is_partial %}
        using pg_temp.checked_keys as k
        where
            v.organization_id = k.organization_id and v.partner_id = k.partner_id and v.period = k.{{ period }}
            and v.mart = '{{ own }}'
    {% else %}
        where v.mart = '{{ own }}' and v.period is not null
    {% endif %}
        and not exists (
            select from pg_temp.new_verdicts as n
            where
                n.organization_id = v.organization_id and n.partner_id = v.partner_id
                and n.period = v.period and n.metric = v.metric
        );
    insert into metadata.parity_verdicts as v (
        organization_id, mart, partner_id, period, metric, mart_value, control_value, difference, tolerance,
        minor_unit, verdict
    )
    select * from pg_temp.new_verdicts
    on conflict (organization_id, mart, partner_id, period, metric) do update
    set
        mart_value = excluded.mart_value, control_value = excluded.control_value,
        difference = excluded.difference, tolerance = excluded.tolerance, minor_unit = excluded.minor_unit,
        verdict = excluded.verdict, checked_at = excluded.checked_at
    where
        (v.mart_value, v.control_value, v.tolerance, v.verdict)
        is distinct from (excluded.mart_value, excluded.control_value, excluded.tolerance, excluded.verdict);
    {{ check_parity_totals(is_partial) }}
    {% if model.config.meta.mart.parity == "hold" %}{{ hold_failed_keys(is_partial) }}{% endif %}
{% endmacro %}
