{#
    Fills the temporary table touched_keys (organization_id, grain..) of a mart's refresh.

    Arguments:
        key: what mart_key(model) returns
#}
{% macro collect_touched_keys(key) %}
    {% set own = model_key(this) %}
    {% set exprs %}
        {% for column in key.grain %}{{ key.expressions[column] }} as {{ column }}{{ ", " if not loop.last }}{% endfor %}
    {% endset %}
    create temporary table touched_keys on commit drop as
    -- withheld until now
    select organization_id, {{ key_columns(key.grain, model, "key") }}
    from metadata.held_keys
    where model = '{{ own }}'
    -- after a full refresh of anything below: every key there is
    union
    select organization_id, {{ key.grain | join(", ") }} from {{ this }}
    where exists (select from pg_temp.taken_changes where is_full)
    {% for parent in lineage(model)["models"] %}
        {% set relation = relation_of(parent) %}
        {% if parent.config.meta.fact %}
            union
            select organization_id, {{ exprs }}
            from (
                select k.organization_id, {{ key_columns(key.places, parent, "k.key") }}
                from metadata.touched_keys as k
                join pg_temp.taken_changes as c on c.change_id = k.change_id
                where c.model = '{{ model_key(relation) }}'
            ) as places
            union
            select organization_id, {{ exprs }} from {{ relation }}
            where exists (select from pg_temp.taken_changes where is_full)
        {% else %}
            {# a changed dimension touches the facts that mention it #}
            {% set id = parent.config.meta.dimension.id %}
            {% for fact in lineage(model)["models"]
                if fact.config.meta.fact and id in fact.config.meta.fact["keys"] %}
                union
                select organization_id, {{ exprs }}
                from {{ relation_of(fact) }}
                where (organization_id, {{ id }}) in (
                    select k.organization_id, k.key ->> '{{ id }}'
                    from metadata.touched_keys as k
                    join pg_temp.taken_changes as c on c.change_id = k.change_id
                    where c.model = '{{ model_key(relation) }}'
                )
            {% endfor %}
        {% endif %}
    {% endfor %}
    {% if parity_metrics(model) %}
        -- a new control window checks the rows in it anew
        union
        select m.organization_id, {% for column in key.grain %}m.{{ column }}{{ ", " if not loop.last }}{% endfor %}
        from {{ this }} as m
        join metadata.extract_windows as w
            on w.organization_id = m.organization_id
            and w.engine = split_part(m.partner_id, ':', 1)
            and m.{{ parity_period(model) }} between w.window_from - 366 and w.window_to
        where
            w.batch_id = any(array(select batch_id from pg_temp.pending_batches))
            and {{ is_control_table("w") }}
    {% endif %};
{% endmacro %}
