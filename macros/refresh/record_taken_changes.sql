{#
    Notes that this model has taken the changes below it, and drops those that everybody has taken.
#}
{% macro record_taken_changes() %}
    insert into metadata.applied_changes (model, change_id)
    select '{{ model_key(this) }}', change_id from pg_temp.taken_changes
    on conflict do nothing;
    {% for parent in lineage(model)["models"] %}
        {% set all_takers = takers(parent) %}
        delete from metadata.changes as c
        where
            c.model = '{{ model_key(relation_of(parent)) }}'
            and (
                select count(*) from metadata.applied_changes as a
                where a.change_id = c.change_id and a.model in ('{{ all_takers | join("', '") }}')
            ) = {{ all_takers | length }};
    {% endfor %}
{% endmacro %}
