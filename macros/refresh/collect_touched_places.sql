{#
    Fills the temporary table touched_places: the fact keys under a mart's touched keys. A week's key is spread over its
    days, so that the facts are read by their index.

    Arguments:
        key: what mart_key(model) returns
#}
{% macro collect_touched_places(key) %}
    create temporary table touched_places on commit drop as
    select distinct
        k.organization_id,
        {% for place in key.places %}
            {{ "d.day" if key.is_spread and place == "day" else "k." ~ place }} as {{ place }}{{ "," if not loop.last }}
        {% endfor %}
    from pg_temp.touched_keys as k
    {% if key.is_spread %}
        {% set dates = graph.nodes["model." ~ project_name ~ ".dim_date"] %}
        join (select day from {{ dates.relation_name }}) as d
            on
            {% for column in key.grain if key.expressions[column] != column %}
                ({{ key.expressions[column] }}) = k.{{ column }} {{ "and" if not loop.last }}
            {% endfor %}
    {% endif %};
    analyze pg_temp.touched_places;
{% endmacro %}
