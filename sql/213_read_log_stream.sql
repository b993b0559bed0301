-- Events of one stream beyond a position of the log, in order of position (in a stream that is its order of version).
create or replace function log.read_log_stream(p_stream text, p_after bigint, p_limit int, p_types text[])
returns setof log.events
language plpgsql stable
set search_path = log, pg_temp
as $$
declare
  first_at bigint;
  last_at  bigint;
begin
  select s.first_position, s.last_position into first_at, last_at
    from streams s where s.stream_id = p_stream order by s.version desc limit 1;
  return query select * from events e
    where e.stream_id = p_stream and e.position between greatest(first_at, p_after + 1) and last_at
      and (p_types is null or e.type like any (p_types))
    order by e.version limit p_limit;
end $$;
