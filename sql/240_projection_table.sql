-- The table of the projection p_name; raises GW020 for whatever else, so that no function that makes or drops tables can
-- be led to another one: a projection's table is a plain table of view with a column state, and no NAME_next.
-- Locks nothing.
create or replace function view.projection_table(p_name text)
returns regclass
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  found regclass;
begin
  select c.oid into found
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    join pg_attribute a on a.attrelid = c.oid
   where n.nspname = 'view'
     and c.relname = p_name
     and c.relkind = 'r'
     and right(p_name, 5) <> '_next'
     and length(p_name) <= 50
     and a.attname = 'state'
     and a.atttypid = 'bytea'::regtype
     and not a.attisdropped;
  if found is null then
    raise exception using errcode = 'GW020', message = format('view.%s is not the table of a projection', p_name);
  end if;
  return found;
end $$;
