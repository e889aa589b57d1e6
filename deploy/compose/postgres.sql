-- Run once, by psql, in the new server. "outrider init" grants this role what it needs.
\set ON_ERROR_STOP on
\set password `cat /run/secrets/relay_password`
create role relay login replication password :'password';
