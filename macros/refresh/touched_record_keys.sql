{#
    A query for the keys of the records of one raw table that the pending batches touch: their own new versions, and
    records below a parent that has a new version (columns with meta.parent), any number of steps up.
    Every form is `= any(array(..))` on an indexed column; joins here cost a scan of the history.

    Arguments:
        table: a source node of the graph
#}
{% macro touched_record_keys(table) %}
    select record_key from {{ table.relation_name }}
    where batch_id = any(array(select batch_id from pg_temp.pending_batches))
    {% for column in table.columns.values() if column.config.meta.parent %}
        {% set parent_name, parent_column = column.config.meta.parent.split(".") %}
        {% set parent_id = "source." ~ project_name ~ "." ~ table.source_name ~ "." ~ parent_name %}
        {% set parent = graph.sources[parent_id] %}
        union
        select record_key from {{ table.relation_name }}
        where {{ adapter.quote(column.name) }} = any(array(
            select {{ adapter.quote(parent_column) }} from {{ parent.relation_name }}
            where record_key = any(array({{ touched_record_keys(parent) }}))
        ))
    {% endfor %}
{% endmacro %}
