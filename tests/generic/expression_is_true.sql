{#
    Passes when `expression` is true for every row; NULL is not true. Returns the failing rows.

    Arguments:
        expression: SQL over the model's columns
#}
{% test expression_is_true(model, expression) %}
    select * from {{ model }} where ({{ expression }}) is not true
{% endtest %}
