{#
    Verdicts in total, per partner and metric over all checked periods (period is NULL): many differences that are each
    within bounds can add up to one that is not.

    Arguments:
        is_partial: whether only touched keys were written
#}
{% macro check_parity_totals(is_partial) %}
    delete from metadata.parity_verdicts as v
    where
        v.mart = '{{ model_key(this) }}' and v.period is null
        {% if is_partial %}
            and (v.organization_id, v.partner_id) in (
                select organization_id, partner_id from pg_temp.checked_keys
            )
        {% endif %};
    insert into metadata.parity_verdicts (
        organization_id, mart, partner_id, period, metric, mart_value, control_value, difference, tolerance,
        minor_unit, verdict
    )
    select
        organization_id, mart, partner_id, null, metric, mart_value, control_value, mart_value - control_value,
        tolerance, minor_unit,
        case when abs(mart_value - control_value) <= tolerance then 'ok' else 'failed' end
    from (
        select
            organization_id, mart, partner_id, metric,
            coalesce(sum(mart_value), 0) as mart_value,
            coalesce(sum(control_value), 0) as control_value,
            max(minor_unit) as minor_unit,
            case
                when max(minor_unit) > 0 then greatest(0.001 * abs(coalesce(sum(control_value), 0)), max(minor_unit))
                else 0
            end as tolerance
        from metadata.parity_verdicts
        where
            mart = '{{ model_key(this) }}' and period is not null and verdict <> 'unchecked'
            and (organization_id, partner_id) in (select organization_id, partner_id from pg_temp.checked_keys)
        group by organization_id, mart, partner_id, metric
    ) as totals;
{% endmacro %}
