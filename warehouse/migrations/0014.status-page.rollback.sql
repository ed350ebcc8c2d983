drop function metadata.visible_alerts();
drop function metadata.visible_backfills();
drop function metadata.visible_sla();
drop trigger notes_waits on metadata.applied_batches;
drop function metadata.note_waits();
drop table metadata.mart_waits;
