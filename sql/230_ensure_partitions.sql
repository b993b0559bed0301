-- Keeps two partitions ahead of the tip; without one for the next position every append would fail.
-- Locks: 7201/2, so that two keepers do not meet; attaching takes SHARE UPDATE EXCLUSIVE on the parent only, which
-- goes through beside readers and appends ("create table .. partition of" would wait behind any open reader).
create or replace function log.ensure_partitions()
returns int
language plpgsql
security definer
set search_path = log, pg_temp
as $$
declare
  made    int := 0;
  length  bigint;
  tip_at  bigint;
  next_at bigint;
  child   text;
begin
  perform pg_advisory_xact_lock(7201, 2);
  select i.partition_size into length from identity i;
  select t.position into tip_at from tip t order by t.position desc limit 1;
  select coalesce(max(p.last_position), 0) + 1 into next_at from partitions p;
  while next_at <= tip_at + 2 * length loop
    child := 'events_' || lpad(next_at::text, 19, '0');
    execute format('create table log.%I (like log.events including all)', child);
    execute format('alter table log.%I add constraint %I unique (stream_id, version)', child, child || '_version');
    execute format('create trigger refuse_truncate before truncate on log.%I
                    for each statement execute function log.refuse_rewrite()', child);
    execute format('alter table log.events attach partition log.%I for values from (%s) to (%s)',
                   child, next_at, next_at + length);
    insert into partitions values (next_at, next_at + length - 1, child);
    next_at := next_at + length;
    made := made + 1;
  end loop;
  return made;
end $$;
