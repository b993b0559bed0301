-- Makes view.NAME_next, empty and like view.NAME: columns, defaults, constraints, indexes, rights. What an earlier
-- rebuild left under that name goes. The gateway may not make tables; this makes none but those of projections (GW020).
-- Locks: access exclusive on a former NAME_next, waiting for whoever reads it (a backup) up to 5 s, then 55P03.
create or replace function view.begin_rebuild(p_name text)
returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '5s'
as $$
declare
  source regclass := view.projection_table(p_name);
  beside text := p_name || '_next';
begin
  execute format('drop table if exists view.%I', beside);
  execute format('create table view.%I (like view.%I including all)', beside, p_name);
  perform view.copy_rights(source, format('view.%I', beside)::regclass);
end $$;
