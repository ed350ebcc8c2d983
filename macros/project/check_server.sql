{#
    Refuses to run against another warehouse than the one meant: the server must know the instance that the caller
    expects (OVERSIGHT_INSTANCE, set by `oversight`), else the project folder that it was set up for.
    A shell's PWD follows into subprocesses, so a profile alone can point to somebody else's data.
#}
{% macro check_server() %}
    {% if execute %}
        {% set found = run_query("select instance_id::text, project_dir from metadata.instance").rows %}
        {% set expected = env_var("OVERSIGHT_INSTANCE", "") %}
        {# Only seeds know the folder that they were read from; flags.PROJECT_DIR is empty without the option. #}
        {% set seeds = graph.nodes.values() | selectattr("resource_type", "equalto", "seed") | list %}
        {% set here = seeds[0].root_path | string if seeds else "" %}
        {% if not found %}
            {{ exceptions.raise_compiler_error("this database holds no warehouse: run `oversight db migrate` first") }}
        {% elif expected and found[0][0] != expected %}
            {{ exceptions.raise_compiler_error(
                "this server is warehouse " ~ found[0][0] ~ ", but " ~ expected ~ " was meant: nothing was done"
            ) }}
        {% elif not expected and target.name == "embedded" and found[0][1] and found[0][1] != here %}
            {{ exceptions.raise_compiler_error(
                "this server belongs to the project in " ~ found[0][1] ~ ", not to " ~ here
                ~ ": run dbt inside that folder, or set OVERSIGHT_HOME"
            ) }}
        {% endif %}
    {% endif %}
{% endmacro %}
