{#
    A mart's part of after_refresh: parity of what was written, then the ledger, the versions that callers see and the
    notification, which reaches listeners when the rows are committed.
#}
{% macro after_mart() %}
    {% set mart = model.config.meta.mart %}
    {% set own = model_key(this) %}
    {% set is_partial = is_incremental() and mart.refresh == "changed_keys" %}
    {% if not is_partial %}{{ restore_closed_rows() }}{% endif %}
    {% if parity_metrics(model) %}{{ check_parity(is_partial) }}{% endif %}
    {{ record_taken_changes() }}
    delete from metadata.mart_sources where model = '{{ own }}';
    {% for table in lineage(model)["sources"] %}
        insert into metadata.mart_sources (model, engine, source_table)
        values ('{{ own }}', '{{ table.source_name }}', '{{ table.name }}')
        on conflict do nothing;
    {% endfor %}
    {# a mart's first build finds no list of what waits: written before it is taken, the trigger notes how long it did #}
    {% if not is_incremental() %}{{ record_waiting() }}{% endif %}
    {{ record_batches() }}
    {{ record_waiting() }}
    {{ record_versions(is_partial) }}
    {% set written %}
        {{ this }}
        {% if is_partial %}
            join pg_temp.touched_keys using (organization_id, {{ mart_key(model).grain | join(", ") }})
        {% endif %}
    {% endset %}
    {{ record_rows(written, ["organization_id"] + mart_key(model).grain) }}
{% endmacro %}
