{#
    Passes when no two rows have the same values in `columns` and none of these is NULL. Returns the failing keys.

    Arguments:
        columns: names of the key's columns
        nullable: those of them that may be NULL; NULL then is a value like others
#}
{% test unique_key(model, columns, nullable=[]) %}
    select {{ columns | join(", ") }}, count(*) as copies
    from {{ model }}
    group by {{ columns | join(", ") }}
    having count(*) > 1 or (
        {% for column in columns if column not in nullable %}{{ column }} is null{{ " or " if not loop.last }}{% endfor %}
    )
{% endtest %}
