{#
    The newest version of each record of a raw table, withdrawn records left out, as a parenthesised sub-select.
    Its only partition key is record_key, so a filter on record_key from outside reaches the index of the raw table.

    Arguments:
        relation: a source, such as source('snapchat', 'ad_history')
#}
{% macro newest_records(relation) -%}
    (
        select *
        from (
            select
                *,
                row_number() over (
                    partition by record_key
                    order by record_version desc, extracted_at desc, batch_id desc, row_id desc
                ) as version_rank
            from {{ relation }}
        ) as versions
        where version_rank = 1 and not is_void
    )
{%- endmacro %}
