drop function if exists metadata.scope_ids(text);
drop function if exists metadata.analyst_may_see(text, text) cascade;
drop table if exists
metadata.analyst_scopes, metadata.principals, metadata.refresh_log_model, metadata.refresh_log,
metadata.parity_history, metadata.parity_verdicts, metadata.data_versions, metadata.mart_sources,
metadata.held_keys, metadata.applied_changes, metadata.touched_keys, metadata.changes,
metadata.applied_batches, metadata.extract_windows, metadata.landed_files, metadata.batch_tables,
metadata.batches, metadata.catalogue, metadata.instance cascade;
