{#
    Last post-hook of every curated and reporting model, in its transaction: writes what this refresh changed and holds
    now, checks parity of marts, and sees to access. All of it commits with the rows, whoever runs dbt.
#}
{% macro after_refresh() %}
    {% if execute %}
        {% if model.config.materialized == "incremental" %}
            {# a table that is new has no statistics yet, and the next refresh needs them for its plans #}
            {% if not is_incremental() %}analyze {{ this }};{% endif %}
            {% if model.config.meta.fact %}
                {{ after_fact() }}
            {% elif model.config.meta.dimension %}
                {{ after_dimension() }}
            {% elif model.config.meta.mart %}
                {{ after_mart() }}
            {% endif %}
        {% endif %}
        {{ apply_access() }}
    {% endif %}
{% endmacro %}
