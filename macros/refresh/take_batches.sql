{#
    Writes down the landed batches that a model of feeds has not applied (all of them when it is built anew), and, when
    it is not, the records that they touch. Later statements read these lists, never the ledger again, so a batch that
    commits meanwhile waits whole for the next refresh.

    Arguments:
        feed: the feed that the model is made of
#}
{% macro take_batches(feed) %}
    create temporary table pending_batches on commit drop as
    select b.batch_id
    from metadata.batches as b
    where
        b.status = 'landed'
        {% if is_incremental() %}
            and not exists (
                select from metadata.applied_batches as a
                where a.model = '{{ model_key(this) }}' and a.batch_id = b.batch_id
            )
        {% endif %};
    {% if is_incremental() %}
        create temporary table touched_records (record_key text not null) on commit drop;
        {% for node in feed_models(feed) %}
            insert into pg_temp.touched_records {{ touched_record_keys(feed_source(node)) }};
        {% endfor %}
        analyze pg_temp.touched_records;
    {% endif %}
{% endmacro %}
