-- The positions of one segment of the index at which a key stands, beyond p_after: the first p_most of them at least,
-- and more only as the same rows hold them. In no order, seldom one twice. Locks nothing.
create or replace function log.indexed_positions(p_segment int, p_key bigint, p_after bigint, p_most int)
returns setof bigint
language plpgsql stable
set search_path = log, pg_temp
set enable_seqscan = off     -- as in 212_read_log.sql
set enable_bitmapscan = off
set enable_sort = off
as $$
declare
  base    bigint := p_segment::bigint << 20;
  at      bigint;
  before  smallint[];
  found   int := 0;
  among   int;
begin
  for at, before in
    select base + i.place, i.earlier from event_index i
     where i.segment = p_segment and i.key = p_key and i.place > p_after - base
     order by i.place
  loop
    return next at;
    return query select at - b from unnest(before) b where at - b > p_after;
    get diagnostics among = row_count;
    found := found + 1 + among;
    exit when found >= p_most;
  end loop;
end $$;
