{#
    The schema of a model: the four schemas as they are called, or a person's own `dev_<user>_*` on target dev.

    Arguments:
        custom_schema_name: what dbt_project.yml says for the folder; a model outside the known folders has none
        node: the model
#}
{% macro generate_schema_name(custom_schema_name, node) %}
    {%- if custom_schema_name is none and node.resource_type not in ["model", "seed", "snapshot"] -%}
        {{ target.schema }}
    {%- elif custom_schema_name is none -%}
        {{ exceptions.raise_compiler_error(
            node.name ~ " lies outside staging, curated and reporting: move it, or give its folder a +schema"
        ) }}
    {%- elif target.name in ["embedded", "prod"] -%}
        {{ custom_schema_name | trim }}
    {%- else -%}
        {{ target.schema }}_{{ custom_schema_name | trim }}
    {%- endif -%}
{% endmacro %}
