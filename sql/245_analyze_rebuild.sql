-- Gives the planner figures of view.NAME_next, so that the first queries after the swap are planned as those before.
-- Locks: share update exclusive on NAME_next, which readers and writers do not feel.
create or replace function view.analyze_rebuild(p_name text)
returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform view.projection_table(p_name);
  execute format('analyze view.%I', p_name || '_next');
end $$;
