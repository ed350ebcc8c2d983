{#
    The rows of a fact (or dimension) that a dimension has to look at in this refresh: one per touched id, by the index
    on it, however many rows mention it; all rows when the dimension is built anew.

    Arguments:
        relation: what mentions the ids
        id: the dimension's id column there
#}
{% macro touched_by_id(relation, id) -%}
    {%- if execute and is_incremental() -%}
        (
            select found.*
            from pg_temp.touched_ids as touched
            cross join lateral (
                select mention.*
                from {{ relation }} as mention
                where mention.organization_id = touched.organization_id and mention.{{ id }} = touched.{{ id }}
                order by mention.partner_id
                limit 1
            ) as found
        ) as touched_rows
    {%- else -%}
        {{ relation }}
    {%- endif -%}
{%- endmacro %}
