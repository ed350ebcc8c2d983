{#
    What a model stands on, from dbt's graph; empty while dbt parses.

    Returns a dict: `models` (curated models that keep a ledger: those with meta.fact or meta.dimension, nearest
    first, through ephemeral models) and `sources` (all raw tables above it). Every mart's hooks name the control
    totals, because dbt wants references before it knows the YAML; a mart without parity does not stand on them.

    Arguments:
        node: a node of the graph
#}
{% macro lineage(node) %}
    {% set found = {"models": [], "sources": []} %}
    {% set queue = node.depends_on.nodes | list %}
    {% set seen = [] %}
    {% for _ in range(1000) if queue %}
        {% set unique_id = queue.pop(0) %}
        {% if unique_id not in seen %}
            {% do seen.append(unique_id) %}
            {% if unique_id.startswith("source.") %}
                {% do found["sources"].append(graph.sources[unique_id]) %}
            {% elif unique_id.startswith("model.") %}
                {% set parent = graph.nodes[unique_id] %}
                {% set is_only_compared = (
                    node.config.meta.mart and parent.name == "fact_control_totals"
                    and not parity_metrics(node) and parent.name not in node.raw_code
                ) %}
                {% if not is_only_compared %}
                    {% if parent.config.meta.fact or parent.config.meta.dimension %}
                        {% do found["models"].append(parent) %}
                    {% endif %}
                    {% do queue.extend(parent.depends_on.nodes) %}
                {% endif %}
            {% endif %}
        {% endif %}
    {% endfor %}
    {{ return(found) }}
{% endmacro %}
