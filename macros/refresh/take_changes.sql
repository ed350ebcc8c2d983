{#
    Writes down the changes of facts and dimensions that this model has not taken. When the model is built anew it takes
    all of them. For a mart also the batches that everything below it holds: these it will hold after this refresh.
#}
{% macro take_changes() %}
    {% set parents = [] %}
    {% for parent in lineage(model)["models"] %}
        {% do parents.append(model_key(relation_of(parent))) %}
    {% endfor %}
    {% if not model.config.meta.dimension %}
        create temporary table pending_batches on commit drop as
        select a.batch_id
        from metadata.applied_batches as a
        where
            a.model in ('{{ parents | join("', '") }}')
            {% if is_incremental() %}
                and not exists (
                    select from metadata.applied_batches as mine
                    where mine.model = '{{ model_key(this) }}' and mine.batch_id = a.batch_id
                )
            {% endif %}
        group by a.batch_id
        having count(*) = {{ parents | length }};
    {% endif %}
    create temporary table taken_changes on commit drop as
    select c.change_id, c.model, c.is_full
    from metadata.changes as c
    where
        c.model in ('{{ parents | join("', '") }}')
        and not exists (
            select from metadata.applied_changes as a
            where a.model = '{{ model_key(this) }}' and a.change_id = c.change_id
        );
{% endmacro %}
