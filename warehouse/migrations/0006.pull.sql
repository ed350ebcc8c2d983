-- How far each engine that is asked over HTTP has been read; moves only together with what landed.
-- depends: 0005.runs

create table metadata.pull_watermarks (
    engine text not null,
    source_table text not null,
    origin text not null,
    through timestamptz not null,
    batch_id bigint not null references metadata.batches,
    moved_at timestamptz not null default clock_timestamp(),
    primary key (engine, source_table)
);
comment on table metadata.pull_watermarks is
'The newest change of an engine that a pull has landed; the next one asks from there, less an overlap. One row per source table.';
comment on column metadata.pull_watermarks.origin is
'The address it was read from: another one is asked from the start.';

alter table metadata.pull_watermarks enable row level security;
create policy oversight_owner on metadata.pull_watermarks to oversight_owner using (true) with check (true);
grant select, insert, update, delete on metadata.pull_watermarks to oversight_owner;
create policy loader_moves on metadata.pull_watermarks to oversight_loader using (true) with check (true);
grant select, insert, update on metadata.pull_watermarks to oversight_loader;
