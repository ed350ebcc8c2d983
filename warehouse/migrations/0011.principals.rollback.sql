drop table metadata.revoked_sessions;
drop trigger notifies_changes on metadata.principals;
drop trigger notifies on metadata.principals;
drop function metadata.notify_principals();
alter table metadata.principals
drop column old_key_until,
drop column old_key_sha256,
drop column rotated_at,
drop column tier;
comment on table metadata.principals is
'Who may call the API; keys are kept as SHA-256. scope maps a scope name to a list of ids, ["*"] means all. One row per key.';
