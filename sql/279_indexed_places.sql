-- The positions beyond p_after at which any of some keys stands in the index, in order: the first p_most up to p_until
-- and the end of the segment that follows p_after. Fewer than p_most: there are no more in it. Locks nothing.
create or replace function log.indexed_places(p_keys bigint[], p_after bigint, p_until bigint, p_most int)
returns bigint[]
language sql stable
set search_path = log, pg_temp
as $$
  select array(
    select distinct p.position
      from unnest(p_keys) k(key)
      cross join lateral indexed_positions(((p_after + 1) >> 20)::int, k.key, p_after, p_most) p(position)
     where p.position <= p_until
     order by p.position limit p_most);
$$;
