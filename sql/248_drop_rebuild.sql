-- Drops view.NAME_next, if it is there: a rebuild was given up. Raises GW020 for the name of anything but a projection.
-- Locks: access exclusive on NAME_next, waiting up to 5 s, then 55P03.
create or replace function view.drop_rebuild(p_name text)
returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '5s'
as $$
begin
  perform view.projection_table(p_name);
  execute format('drop table if exists view.%I', p_name || '_next');
end $$;
