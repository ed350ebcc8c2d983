{#
    What still waits for this mart once it has taken its batches: those that landed meanwhile. A batch that commits
    between these statements is noted by the trigger on metadata.batch_tables, except during a mart's very first build:
    its lineage is not committed then, so such a batch shows as waiting from the next refresh on. Its rows are not missed.
#}
{% macro record_waiting() %}
    {% set own = model_key(this) %}
    delete from metadata.waiting_batches where model = '{{ own }}';
    insert into metadata.waiting_batches (model, organization_id, batch_id, landed_at)
    select s.model, t.organization_id, t.batch_id, min(t.landed_at)
    from metadata.mart_sources as s
    join metadata.batch_tables as t on t.engine = s.engine and t.source_table = s.source_table
    where
        s.model = '{{ own }}'
        and not exists (
            select from metadata.applied_batches as a
            where a.model = s.model and a.batch_id = t.batch_id
        )
    group by s.model, t.organization_id, t.batch_id
    on conflict do nothing;
{% endmacro %}
