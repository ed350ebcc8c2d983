{#
    The row policies of the model in hand: a dict of policy name -> definition. A reader's setting is compared with a
    text column and nothing else; an analyst is asked who they logged in as, since anyone who types SQL can set a setting.
#}
{% macro wanted_policies() %}
    {% set wanted = {"oversight_owner": "to oversight_owner using (true) with check (true)"} %}
    {% if model.config.meta.mart %}
        {% set reader = [] %}
        {% set analyst = [] %}
        {% for scope, column in model.config.meta.mart.scope.items() %}
            {% do reader.append(
                "('*' = any(metadata.scope_ids('" ~ scope ~ "')) or "
                ~ column ~ " = any(metadata.scope_ids('" ~ scope ~ "')))"
            ) %}
            {% do analyst.append("metadata.analyst_may_see('" ~ scope ~ "', " ~ column ~ ")") %}
        {% endfor %}
        {% do wanted.update({
            "reader": "for select to oversight_reader using (" ~ reader | join(" and ") ~ ")",
            "analyst": "for select to oversight_analyst using (" ~ analyst | join(" and ") ~ ")",
        }) %}
    {% endif %}
    {{ return(wanted) }}
{% endmacro %}
