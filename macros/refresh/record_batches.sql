{#
    Enters the batches of this refresh into the ledger; a model built anew forgets what it held before.
#}
{% macro record_batches() %}
    {% if not is_incremental() %}
        delete from metadata.applied_batches where model = '{{ model_key(this) }}';
    {% endif %}
    insert into metadata.applied_batches (model, batch_id)
    select '{{ model_key(this) }}', batch_id from pg_temp.pending_batches
    on conflict do nothing;
{% endmacro %}
