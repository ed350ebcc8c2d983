{#
    How a mart's key hangs on the keys of the facts below it.

    Returns a dict: `grain` (the grain without organization_id), `expressions` (grain column -> SQL over fact key
    columns; from meta.mart.keys, else the column itself), `places` (fact key columns that these speak of) and
    `is_spread` (some expression is over `day`, so that a key covers several days).

    Arguments:
        node: the mart
#}
{% macro mart_key(node) %}
    {% set mart = node.config.meta.mart %}
    {% set grain = mart.grain | reject("equalto", "organization_id") | list %}
    {% set declared = mart.get("keys") or {} %}
    {% set expressions = {} %}
    {% set places = [] %}
    {% for column in grain %}
        {% do expressions.update({column: declared.get(column, column)}) %}
        {% set place = "day" if column in declared else column %}
        {% if place not in places %}{% do places.append(place) %}{% endif %}
    {% endfor %}
    {{ return({
        "grain": grain, "expressions": expressions, "places": places, "is_spread": (declared | length) > 0
    }) }}
{% endmacro %}
