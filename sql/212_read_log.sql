-- Events beyond a position, in order of position. Locks nothing.
-- p_types: null for all, else LIKE patterns ('session.%', 'session.ready').
create or replace function log.read_log(p_after bigint, p_limit int, p_types text[])
returns setof log.events
language sql stable
set search_path = log, pg_temp
set enable_seqscan = off     -- a plan made while a partition is empty scans it, and is kept while it fills
set enable_bitmapscan = off  -- without statistics these two read all that is left of the log before the first row
set enable_sort = off
as $$
  select * from events e
   where e.position > p_after
     and (p_types is null or e.type like any (p_types))
   order by e.position
   limit p_limit;
$$;
