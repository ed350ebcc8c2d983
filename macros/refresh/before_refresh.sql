{#
    First pre-hook of every curated and reporting model, in its transaction: takes the model's lock, writes down once
    what this refresh will take, and removes the rows that it will write again. after_refresh() closes the books.
#}
{% macro before_refresh() %}
    {% if not execute %}
        {# every mart's hooks read these: its key is spread over days, its rows are compared with the controls #}
        {% if model.fqn[1] == "reporting" and model.config.materialized != "view" %}
            {% do ref("dim_date") %}
            {% do ref("fact_control_totals") %}
        {% endif %}
    {% elif model.config.materialized == "incremental" %}
        {% if env_var("OVERSIGHT_RUN_ID", "") %}
            {# a run that was frozen and woke up, or was cancelled, starts no model more #}
            select metadata.require_running({{ env_var("OVERSIGHT_RUN_ID") | int }});
        {% endif %}
        {# whoever builds the model now may take long, but one that was stopped must not hold everybody for ever #}
        set local lock_timeout = '30min';
        select pg_advisory_xact_lock(hashtextextended('oversight:{{ model_key(this) }}', 0));
        {# new readers queue behind a swap that waits for an old one: rather fail, and let the next run try again #}
        set local lock_timeout = '10s';
        {% if model.config.meta.fact %}
            {{ before_fact() }}
        {% elif model.config.meta.dimension %}
            {{ before_dimension() }}
        {% elif model.config.meta.mart %}
            {{ before_mart() }}
        {% endif %}
    {% endif %}
{% endmacro %}
