{#
    Sees that a table has row-level security with the policies, grants and (for a mart) the unique index that its
    declaration asks for. It compares with the catalogue first and issues only the difference: policies and indexes
    take strong locks, and a swap by dbt has lost all of them. Readers see marts only; all else is dbt's own.
#}
{% macro apply_access() %}
    {% if execute %}
        {% set wanted = wanted_policies() %}
        {% set roles = ["oversight_reader", "oversight_analyst"] if model.config.meta.mart else [] %}
        {% if model.config.materialized == "view" %}
            {% if roles %}
                alter view {{ this }} set (security_invoker = true);
                grant select on {{ this }} to {{ roles | join(", ") }};
            {% endif %}
        {% else %}
            {% set found = run_query(
                "select p.polname, obj_description(p.oid, 'pg_policy') from pg_policy as p "
                ~ "where p.polrelid = '" ~ this ~ "'::regclass"
            ) %}
            {% set have = {} %}
            {% for row in found.rows %}{% do have.update({row[0]: row[1]}) %}{% endfor %}
            {% set statements = [] %}
            {% if not run_query(
                "select relrowsecurity from pg_class where oid = '" ~ this ~ "'::regclass"
            ).rows[0][0] %}
                {% do statements.append("alter table " ~ this ~ " enable row level security") %}
            {% endif %}
            {% for name, definition in wanted.items() if have.get(name) != local_md5(definition) %}
                {% if name in have %}{% do statements.append("drop policy " ~ name ~ " on " ~ this) %}{% endif %}
                {% do statements.append("create policy " ~ name ~ " on " ~ this ~ " " ~ definition) %}
                {% do statements.append(
                    "comment on policy " ~ name ~ " on " ~ this ~ " is '" ~ local_md5(definition) ~ "'"
                ) %}
            {% endfor %}
            {% for name in have if name not in wanted %}
                {% do statements.append("drop policy " ~ adapter.quote(name) ~ " on " ~ this) %}
            {% endfor %}
            {% for statement in statements %}{{ statement }};{% endfor %}
            {% for role in roles %}
                {% if not run_query("select has_table_privilege('" ~ role ~ "', '" ~ this ~ "', 'select')").rows[0][0] %}
                    grant select on {{ this }} to {{ role }};
                {% endif %}
            {% endfor %}
            {% if model.config.meta.mart %}{{ ensure_unique_index(model.config.meta.mart.grain) }}{% endif %}
        {% endif %}
    {% endif %}
{% endmacro %}
