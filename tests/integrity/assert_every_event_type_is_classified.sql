-- An event type that the seed event_types does not list counts as no revenue; somebody should say
-- whether it is.
{{ config(severity="warn") }}

select
    events.engine,
    events.event_type,
    count(*) as records
from {{ ref("fact_events") }} as events
left join {{ ref("event_types") }} as event_types
    on events.engine = event_types.engine and events.event_type = event_types.event_type
where event_types.event_type is null
group by events.engine, events.event_type
