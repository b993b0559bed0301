-- Events of one stream beyond a position of the log, in order of position (in a stream that is its order of version).
-- Locks nothing. The version that the position stands for is found by a binary search, so that a page of a stream
-- costs its own rows and some 20 probes, wherever in the stream it begins.
create or replace function log.read_log_stream(p_stream text, p_after bigint, p_limit int, p_types text[])
returns setof log.events
language plpgsql stable
set search_path = log, pg_temp
set enable_seqscan = off     -- as in 212_read_log.sql
set enable_bitmapscan = off
set enable_sort = off
as $$
declare
  first_at  bigint;
  last_at   bigint;
  low       int := 0;   -- the last version that is known to stand at or before p_after
  high      int;
  probe     int;
begin
  select s.first_position, s.last_position, s.version into first_at, last_at, high
    from streams s where s.stream_id = p_stream order by s.version desc limit 1;
  if last_at is null or p_after >= last_at then
    return;
  end if;
  while p_after >= first_at and low < high loop
    probe := (low + high + 1) / 2;
    -- The order, though one version is meant, keeps the planner to the index by versions.
    if (select e.position from events e
         where e.stream_id = p_stream and e.version >= probe and e.position between first_at and last_at
         order by e.version limit 1) <= p_after then
      low := probe;
    else
      high := probe - 1;
    end if;
  end loop;
  return query select * from events e
    where e.stream_id = p_stream and e.version > low
      and e.position between greatest(first_at, p_after + 1) and last_at
      and (p_types is null or e.type like any (p_types))
    order by e.version limit p_limit;
end $$;
