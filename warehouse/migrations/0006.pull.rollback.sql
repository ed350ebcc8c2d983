drop table metadata.pull_watermarks;
