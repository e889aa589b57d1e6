alter table outrider.checkpoint add column if not exists kept jsonb;
comment on column outrider.checkpoint.kept is 'Which rows of the outbox no retention deletes: those of transactions before xid, and those that are older than at. They were never read, or passed over by a decision; outrider prune --passed-over lets them go.';
