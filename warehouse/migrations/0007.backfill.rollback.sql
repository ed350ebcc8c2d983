drop view metadata.backfill_progress;
drop table metadata.backfill_weeks;
drop table metadata.backfills;
alter table metadata.batches drop column window_from, drop column window_to;
alter table metadata.batch_tables drop column is_backfill;
