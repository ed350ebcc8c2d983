{#
    The name under which the ledgers of schema metadata know a model: its own name where it is served, with its
    schema on a person's dev target, so that a dev build never moves the watermark of what is served.

    Arguments:
        relation: the model's relation
#}
{% macro model_key(relation) %}
    {{- return(
        relation.identifier if target.name in ["embedded", "prod"]
        else relation.schema ~ "." ~ relation.identifier
    ) -}}
{% endmacro %}
