-- Row triggers reach every partition; a TRUNCATE trigger does not, so each partition has its own
-- (230_ensure_partitions.sql). tip and streams move their keys by delete and are derived: not guarded here.
drop trigger if exists refuse_change on log.events;
create trigger refuse_change before update or delete on log.events
  for each row execute function log.refuse_rewrite();
drop trigger if exists refuse_truncate on log.events;
create trigger refuse_truncate before truncate on log.events
  for each statement execute function log.refuse_rewrite();
drop trigger if exists refuse_change on log.event_key;
create trigger refuse_change before update or delete on log.event_key
  for each row execute function log.refuse_rewrite();
drop trigger if exists refuse_truncate on log.event_key;
create trigger refuse_truncate before truncate on log.event_key
  for each statement execute function log.refuse_rewrite();
drop trigger if exists refuse_change on log.identity;
create trigger refuse_change before update or delete on log.identity
  for each row execute function log.refuse_rewrite();
drop trigger if exists refuse_truncate on log.identity;
create trigger refuse_truncate before truncate on log.identity
  for each statement execute function log.refuse_rewrite();
