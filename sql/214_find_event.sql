-- One event by its id; no row when there is none.
create or replace function log.find_event(p_id uuid)
returns setof log.events
language sql stable
set search_path = log, pg_temp
set enable_seqscan = off
as $$
  select e.* from event_key k join events e on e.position = k.position where k.event_id = p_id;
$$;
