-- One row per organization, day and partner of the engines' own totals; NULL where the engine gives no figure.
{{
    config(
        indexes=[
            {"columns": ["record_key"], "unique": true},
            {"columns": ["organization_id", "partner_id", "day"]},
        ],
    )
}}

with records as (
    select * from {{ ref("int_control_totals__unioned") }}
),

final as (
    select
        organization_id,
        record_key,
        partner_id,
        day,
        spend_amount,
        revenue_amount,
        events,
        impressions,
        clicks,
        precision
    from records
    {% if is_incremental() %}
        where record_key = any(array(select t.record_key from pg_temp.touched_records as t))
    {% endif %}
)

select * from final
