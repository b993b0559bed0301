-- The last position recorded at or before a moment; 0 when there is none.
-- recorded_at never goes back along position, so this is a binary search on the primary key: no index on time.
create or replace function log.position_at(p_moment timestamptz)
returns bigint
language plpgsql stable
set search_path = log, pg_temp
set enable_seqscan = off
as $$
declare
  low   bigint := 0;
  high  bigint;
  probe bigint;
begin
  select t.position into high from tip t order by t.position desc limit 1;
  while low < high loop
    probe := (low + high + 1) / 2;
    if (select e.recorded_at <= p_moment from events e where e.position = probe) then
      low := probe;
    else
      high := probe - 1;
    end if;
  end loop;
  return low;
end $$;
