-- event_index is filled once for each position and never rewritten. In a file of its own: to apply 310 again would lock
-- the log against every append. indexed moves its key by delete and is not guarded.
drop trigger if exists refuse_change on log.event_index;
create trigger refuse_change before update or delete on log.event_index
  for each row execute function log.refuse_rewrite();
drop trigger if exists refuse_truncate on log.event_index;
create trigger refuse_truncate before truncate on log.event_index
  for each statement execute function log.refuse_rewrite();
