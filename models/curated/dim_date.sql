-- One row per calendar day, 1990 to 2100, with its ISO week. Static, so that no refresh has to
-- keep it.
{{
    config(
        materialized="table",
        on_schema_change="ignore",
        indexes=[{"columns": ["day"], "unique": true}],
    )
}}

with days as (
    select generate_series(date '1990-01-01', date '2100-12-31', interval '1 day')::date as day
),

final as (
    select
        to_char(day, 'YYYYMMDD')::integer as date_key,
        day,
        date_trunc('week', day)::date as week,
        date_trunc('month', day)::date as month,
        date_trunc('quarter', day)::date as quarter,
        extract(year from day)::integer as year,
        extract(isoyear from day)::integer as iso_year,
        extract(week from day)::integer as iso_week,
        extract(isodow from day)::integer as day_of_week
    from days
)

select * from final
