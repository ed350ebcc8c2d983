{#
    A query that compares a mart with the engines' control totals, one row per key and metric, with the verdict:
    ok, failed, or unchecked (no control window covers the key, or the control gives no figure: NULL is not 0).
    Inside a window a key on one side only fails. Money may differ by 0.1 % or one minor unit, counts by nothing.

    Arguments:
        node: the mart
        keys: relation with organization_id, partner_id and the mart's period column
#}
{% macro parity_comparison(node, keys) %}
    {% set period = parity_period(node) %}
    {% set expression = mart_key(node).expressions[period] %}
    {% set relation = relation_of(node) %}
    {% set controls = relation_of(graph.nodes["model." ~ project_name ~ ".fact_control_totals"]) %}
    {% set dates = relation_of(graph.nodes["model." ~ project_name ~ ".dim_date"]) %}
    with keys as (
        select organization_id, partner_id, {{ period }} as period from {{ keys }}
    ),

    windows as (
        select w.organization_id, w.engine, range_agg(daterange(w.window_from, w.window_to, '[]')) as days
        from metadata.extract_windows as w
        join metadata.applied_batches as a
            on a.batch_id = w.batch_id and a.model = '{{ model_key(controls) }}'
        where {{ is_control_table("w") }}
        group by w.organization_id, w.engine
    ),

    days as (
        select k.organization_id, k.partner_id, k.period, d.day, coalesce(d.day <@ w.days, false) as is_covered
        from keys as k
        join (select day, {{ expression }} as period from {{ dates }}) as d on d.period = k.period
        left join windows as w
            on w.organization_id = k.organization_id and w.engine = split_part(k.partner_id, ':', 1)
    ),

    control as (
        select
            d.organization_id,
            d.partner_id,
            d.period,
            bool_and(d.is_covered) as is_covered,
            count(c.record_key) as controls,
            max(c.precision) as minor_unit,
            {% for metric in parity_metrics(node) %}
                case when count(c.{{ metric.control }}) = count(c.record_key) then sum(c.{{ metric.control }}) end
                    as {{ metric.name }}{{ "," if not loop.last }}
            {% endfor %}
        from days as d
        left join {{ controls }} as c
            on c.organization_id = d.organization_id and c.partner_id = d.partner_id and c.day = d.day
        group by d.organization_id, d.partner_id, d.period
    ),

    controlled (engine, metric) as (
        values
        {% for feed in feed_models("control_totals") %}
            {% for metric in parity_metrics(node) if metric.control in feed.config.meta.feed.controls %}
                ('{{ feed_source(feed).source_name }}', '{{ metric.name }}'),
            {% endfor %}
        {% endfor %}
        (null, null)
    ),

    compared as (
        select
            c.organization_id,
            c.partner_id,
            c.period,
            v.metric,
            m.partner_id is not null as is_in_mart,
            c.controls > 0 as is_in_control,
            v.mart_value,
            v.control_value,
            case v.kind when 'money' then coalesce(c.minor_unit, 0) else 0 end as minor_unit,
            case v.kind
                when 'money' then greatest(0.001 * abs(v.control_value), c.minor_unit) else 0
            end as tolerance
        from control as c
        left join {{ relation }} as m
            on m.organization_id = c.organization_id and m.partner_id = c.partner_id and m.{{ period }} = c.period
        cross join lateral (
            values
            {% for metric in parity_metrics(node) %}
                ('{{ metric.name }}', '{{ metric.kind }}', m.{{ metric.name }}::numeric, c.{{ metric.name }}::numeric)
                {{- "," if not loop.last }}
            {% endfor %}
        ) as v (metric, kind, mart_value, control_value)
        join controlled as e on e.engine = split_part(c.partner_id, ':', 1) and e.metric = v.metric
        where c.is_covered
    )

    select
        organization_id,
        '{{ model_key(relation) }}' as mart,
        partner_id,
        period,
        metric,
        mart_value,
        control_value,
        mart_value - control_value as difference,
        tolerance,
        minor_unit,
        case
            when is_in_control and control_value is null then 'unchecked'
            when is_in_mart and is_in_control and (abs(mart_value - control_value) <= tolerance) is true then 'ok'
            else 'failed'
        end as verdict
    from compared
    where is_in_mart or is_in_control
    union all
    select
        c.organization_id, '{{ model_key(relation) }}', c.partner_id, c.period, '*', null, null, null, null, null,
        'unchecked'
    from control as c
    join {{ relation }} as m
        on m.organization_id = c.organization_id and m.partner_id = c.partner_id and m.{{ period }} = c.period
    where
        not c.is_covered
        or not exists (select from controlled as e where e.engine = split_part(c.partner_id, ':', 1))
{% endmacro %}
