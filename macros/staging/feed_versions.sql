{#
    Every landed version of the records of one feed, of all engines, from the raw tables that the feed's views read:
    what a record said (its declared columns, as a jsonb object), from when until when, and whether it was withdrawn.

    Arguments:
        feed: partners or campaigns
#}
{% macro feed_versions(feed) %}
    {% for node in feed_models(feed) %}
        {% set table = feed_source(node) %}
        {% set version = (table.config.meta.landing.version or {}).column %}
        {% set is_timed = version and table.columns[version].data_type == "timestamptz" %}
        {% set given_at = "coalesce(" ~ version ~ ", extracted_at)" if is_timed else "extracted_at" %}
        select
            organization_id,
            '{{ table.source_name }}'::text as engine,
            record_key,
            row_number() over (
                partition by record_key order by record_version, extracted_at, batch_id, row_id
            ) as version_number,
            is_void as is_withdrawn,
            jsonb_build_object(
                {% for column in table.columns.values() %}
                    '{{ column.name }}', {{ adapter.quote(column.name) }}{{ "," if not loop.last }}
                {% endfor %}
            ) as attributes,
            {{ given_at }} as valid_from,
            lead({{ given_at }}) over (
                partition by record_key order by record_version, extracted_at, batch_id, row_id
            ) as valid_to
        from {{ table.relation_name }}
        {% if not loop.last %}
            union all
        {% endif %}
    {% else %}
        select
            null::text as organization_id,
            null::text as engine,
            null::text as record_key,
            null::bigint as version_number,
            null::boolean as is_withdrawn,
            null::jsonb as attributes,
            null::timestamptz as valid_from,
            null::timestamptz as valid_to
        where false
    {% endfor %}
{% endmacro %}
