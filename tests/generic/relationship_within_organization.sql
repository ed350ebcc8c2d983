{#
    Passes when every value of `column` is an id of dimension `to` in the same organization. Returns the orphans.

    Arguments:
        column: the referring column, called the same in the dimension
        to: the dimension
#}
{% test relationship_within_organization(model, column, to) %}
    select child.organization_id, child.{{ column }}, count(*) as orphans
    from {{ model }} as child
    left join {{ to }} as parent
        on child.organization_id = parent.organization_id and child.{{ column }} = parent.{{ column }}
    where child.{{ column }} is not null and parent.{{ column }} is null
    group by child.organization_id, child.{{ column }}
{% endtest %}
