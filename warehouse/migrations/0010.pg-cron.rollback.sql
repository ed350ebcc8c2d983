drop function metadata.forget_requests();
drop function metadata.request_due(text);
drop function metadata.pg_cron_key(text, timestamptz);
