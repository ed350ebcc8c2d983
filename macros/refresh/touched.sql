{#
    The rows of a fact that a mart has to read in this refresh: all when it is built anew, else those in the places that
    changed, by the fact's index. `select .. from {{ '{{' }} touched(ref('fact_spend')) {{ '}}' }}` is all that a mart
    has to write to be refreshed at the cost of the change.

    Arguments:
        relation: a fact
#}
{% macro touched(relation) -%}
    {%- if execute and is_incremental() and model.config.meta.mart.refresh == "changed_keys" -%}
        (
            select fact.*
            from {{ relation }} as fact
            join pg_temp.touched_places as place using (organization_id, {{ mart_key(model).places | join(", ") }})
        ) as touched_rows
    {%- else -%}
        {{ relation }}
    {%- endif -%}
{%- endmacro %}
