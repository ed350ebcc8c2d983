-- One row per version of a campaign's record, in the words of its engine. A view over what landed,
-- so that it costs nothing until somebody asks.
{{ config(materialized="view", on_schema_change="ignore") }}

-- depends_on: {{ ref("int_campaigns__unioned") }}
with versions as (
    {{ feed_versions("campaigns") }}
),

final as (
    select
        organization_id,
        engine,
        record_key,
        version_number,
        is_withdrawn,
        attributes,
        valid_from,
        valid_to
    from versions
)

select * from final
