-- Who may call: tiers, a second key while one is being replaced, sessions that were ended before their time.
-- depends: 0010.pg-cron

alter table metadata.principals
add column tier text not null default 'standard' check (tier in ('standard', 'enterprise')),
add column rotated_at timestamptz,
add column old_key_sha256 bytea unique check (length(old_key_sha256) = 32),
add column old_key_until timestamptz,
add check ((old_key_sha256 is null) = (old_key_until is null));
comment on table metadata.principals is
'Who may call the API; keys are kept as SHA-256. scope maps a scope name to a list of ids, ["*"] means all. One row per principal.';
comment on column metadata.principals.tier is 'How much it may ask, see OVERSIGHT_RATE_LIMITS.';
comment on column metadata.principals.rotated_at is 'When its key was last replaced; NULL while it has its first.';
comment on column metadata.principals.old_key_sha256 is 'The key before the last rotation; NULL when there is none.';
comment on column metadata.principals.old_key_until is 'Until when that key works too.';

create table metadata.revoked_sessions (
    jti text primary key,
    until timestamptz not null,
    revoked_at timestamptz not null default now()
);
comment on table metadata.revoked_sessions is
'Sessions (JWT) that were ended early; until is when they are over anyway. One row per session.';

create function metadata.notify_principals() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    perform pg_notify('oversight_principals', '');
    return null;
end
$$;
comment on function metadata.notify_principals() is 'Tells every process of the API to ask again who may call.';
-- A note of the last use changes nothing that anyone may do.
create trigger notifies after insert or delete or truncate on metadata.principals
for each statement execute function metadata.notify_principals();
create trigger notifies_changes after update
of name, key_sha256, role, scope, expires_at, revoked_at, tier, old_key_sha256, old_key_until on metadata.principals
for each statement execute function metadata.notify_principals();
create trigger notifies after insert or update or delete or truncate on metadata.revoked_sessions
for each statement execute function metadata.notify_principals();

alter table metadata.revoked_sessions enable row level security;
create policy oversight_owner on metadata.revoked_sessions to oversight_owner using (true) with check (true);
grant select, insert, update, delete on metadata.revoked_sessions to oversight_owner;
create policy api_reads on metadata.revoked_sessions for select to oversight_api using (true);
grant select on metadata.revoked_sessions to oversight_api;
