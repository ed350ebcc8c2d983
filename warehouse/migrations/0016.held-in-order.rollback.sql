drop index metadata.held_keys_since;
