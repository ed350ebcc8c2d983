-- When the oldest key of a mart and an organization was withheld is one look, however many others are.
-- depends: 0010.pg-cron

create index held_keys_since on metadata.held_keys (model, organization_id, held_since);
