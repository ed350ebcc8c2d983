{#
    Leaves a row `manual` in metadata.refresh_log when a person ran dbt: the daemon writes its own.

    Arguments:
        results: dbt's results of this run
#}
{% macro log_manual_run(results) %}
    {% if execute and flags.WHICH in ["run", "build", "seed", "snapshot"] and not env_var("OVERSIGHT_RUN_ID", "")
        and target.name in ["embedded", "prod"] %}
        {% set models = [] %}
        {% set failures = [] %}
        {% for result in results %}
            {% if result.node.resource_type == "model" and result.node.config.materialized == "incremental" %}
                {% do models.append(result.node.name) %}
            {% endif %}
            {% if result.status | string in ["error", "fail", "runtime error"] %}
                {% do failures.append(
                    result.node.name ~ ": " ~ modules.re.sub("\x1b\\[[0-9;]*m|\r", "", result.message or "")
                ) %}
            {% endif %}
        {% endfor %}
        insert into metadata.refresh_log
            (job_name, started_at, finished_at, status, error_message, models, invocation_id)
        values (
            'manual',
            '{{ run_started_at }}',
            clock_timestamp(),
            '{{ "failed" if failures else "success" }}',
            {{ "null" if not failures else "'" ~ (failures | join("\n")) | replace("'", "''") | replace("%", "%%") ~ "'" }},
            array[{% for name in models %}'{{ name }}'{{ "," if not loop.last }}{% endfor %}]::text[],
            '{{ invocation_id }}'
        );
    {% endif %}
{% endmacro %}
