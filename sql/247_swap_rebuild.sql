-- Puts view.NAME_next in the place of view.NAME and drops the former one; indexes and constraints get its names. False,
-- with nothing done, when somebody reads or writes either table for longer than the lock is waited for: others queue
-- behind a waiting lock, so the wait is short and the caller tries again.
-- Raises GW021 when the former table has what the new one would not have (rebuild_would_lose), 2BP01 when an object of
-- another kind depends on it: it would go with it.
-- Locks: access exclusive on both until commit.
create or replace function view.swap_rebuild(p_name text)
returns boolean
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '200ms'
as $$
declare
  former regclass := view.projection_table(p_name);
  beside regclass := format('view.%I', p_name || '_next')::regclass;
  named  record;
  pairs  text[];
  losing text[];
begin
  begin
    execute format('lock table %s, %s in access exclusive mode', former, beside);
  exception when lock_not_available then
    return false;
  end;
  losing := view.rebuild_would_lose(p_name);  -- what was made while it was built; nothing can be any more
  if losing <> '{}' then
    raise exception using errcode = 'GW021', message = array_to_string(losing, '; ');
  end if;
  perform view.copy_rights(former, beside);
  with shapes as (
    select i.indrelid, c.relname,
           split_part(pg_get_indexdef(i.indexrelid), ' USING ', 2) || i.indisunique || i.indisprimary as shape
      from pg_index i
      join pg_class c on c.oid = i.indexrelid
     where i.indrelid in (former, beside)
  ), numbered as (
    select indrelid, relname, shape, row_number() over (partition by indrelid, shape order by relname) as nth from shapes
  )
  select array_agg(array[b.relname::text, f.relname::text]) into pairs
    from numbered f
    join numbered b using (shape, nth)
   where f.indrelid = former and b.indrelid = beside;
  execute format('drop table %s', former);
  execute format('alter table %s rename to %I', beside, p_name);
  for named in select pairs[i][1] as now, pairs[i][2] as wanted from generate_series(1, cardinality(pairs) / 2) i loop
    execute format('alter index view.%I rename to %I', named.now, named.wanted);
  end loop;
  return true;
end $$;
