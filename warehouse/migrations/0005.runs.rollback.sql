drop table metadata.job_requests;
drop function metadata.notify_request();
drop table metadata.jobs;
drop table metadata.leadership;
alter table metadata.refresh_log_model drop column seconds, drop column rows_updated;
drop function metadata.require_running(bigint);
drop trigger final_state_stays on metadata.refresh_log;
drop function metadata.keep_final_state();
drop index metadata.refresh_log_job;
drop index metadata.refresh_log_running;
drop index metadata.refresh_log_slot;
alter table metadata.refresh_log
drop column project_version,
drop column dbt_version,
drop column cancel_requested_at,
drop column attempts,
drop column epoch,
drop column lead_run_id,
drop column heartbeat_at;
