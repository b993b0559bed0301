-- The events of a reading that log.announce_read told within the last 15 minutes, in order of position.
-- Locks nothing. Promises: whoever gets a row is named in a log.read event that is committed, and on the disk.
-- Raises GW003 for a ticket that is not of this role, or too old; GW004 when it was told in this very transaction.
create or replace function log.read_announced(p_ticket uuid)
returns setof log.event_json
language plpgsql volatile security definer
set search_path = log, pg_temp
set enable_seqscan = off     -- as in 212_read_log.sql
set enable_bitmapscan = off
set enable_sort = off
as $$
declare
  told   jsonb;
  types  text[];
  until  pg_lsn;
begin
  -- append_batch holds its lock until commit: while we hold it, what it wrote could still be rolled back.
  if exists (select from pg_locks l where l.locktype = 'advisory' and l.pid = pg_backend_pid()
                and (l.classid, l.objid, l.objsubid) = (7201, 1, 2)) then
    raise exception 'commit the announcement first: in this transaction it could be taken back' using errcode = 'GW004';
  end if;
  select convert_from(e.payload, 'UTF8')::jsonb into told from find_event(p_ticket) e
   where e.type = 'log.read' and e.actor = reading_actor()
     and e.recorded_at > clock_timestamp() - interval '15 minutes';
  if told is null or told->>'what' <> 'sql' then
    raise exception 'no reading of yours was announced with that id in the last 15 minutes' using errcode = 'GW003';
  end if;
  -- "set local synchronous_commit = off" before the commit would let him read first and the disk know later.
  if pg_is_in_recovery() then
    null;  -- a standby has it from the disk of the other
  elsif current_setting('server_version_num')::int >= 170000 then
    perform pg_logical_emit_message(false, 'session_gateway', '', true);
  else
    until := pg_current_wal_insert_lsn();
    if pg_current_wal_flush_lsn() < until then
      perform pg_logical_emit_message(false, 'session_gateway', repeat(' ', 8192));  -- the WAL writer writes full pages
    end if;
    while pg_current_wal_flush_lsn() < until loop perform pg_sleep(0.01); end loop;
  end if;
  -- 'session.*' as a LIKE pattern; null for all.
  select array_agg(replace(replace(t, '_', '\_'), '.*', '.%')) into types from jsonb_array_elements_text(told->'types') t;
  if told->>'stream' is null then
    return query select j.* from event_json j
      where j.position > (told->>'after')::bigint and j.position <= (told->>'until')::bigint
        and (types is null or j.type like any (types))
      order by j.position;
  else
    return query select j.*
      from read_log_stream(told->>'stream', (told->>'after')::bigint, 2147483647, types) s
      cross join lateral (select v.* from event_json v where v.position = s.position offset 0) j  -- one look each
      where s.position <= (told->>'until')::bigint;
  end if;
end $$;
