drop function metadata.metrics();
