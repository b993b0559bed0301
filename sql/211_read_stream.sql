-- Events of one stream beyond a version, in order of version (p_backwards: newest first). Locks nothing.
-- The positions of the stream's ends, from streams, let the planner open only the partitions that hold it.
create or replace function log.read_stream(p_stream text, p_after int, p_limit int, p_backwards boolean)
returns setof log.events
language plpgsql stable
set search_path = log, pg_temp
set enable_seqscan = off     -- a plan made while a partition is empty scans it, and is kept while it fills
set enable_bitmapscan = off  -- without statistics these two read all that is left of the log before the first row
set enable_sort = off
as $$
declare
  first_at bigint;
  last_at  bigint;
begin
  select s.first_position, s.last_position into first_at, last_at
    from streams s where s.stream_id = p_stream order by s.version desc limit 1;
  if p_backwards then
    return query select * from events e
      where e.stream_id = p_stream and e.version > p_after and e.position between first_at and last_at
      order by e.version desc limit p_limit;
  else
    return query select * from events e
      where e.stream_id = p_stream and e.version > p_after and e.position between first_at and last_at
      order by e.version limit p_limit;
  end if;
end $$;
