-- How many rows view.NAME_next has, and in how many the two tables differ: missing, too many, or with another value in
-- any column. Joined by the first column, which is the key. As the caller; locks nothing.
create or replace function view.compare_rebuild(p_name text, out rows bigint, out differing bigint)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  source regclass := view.projection_table(p_name);
  key    name;
begin
  select a.attname into key from pg_attribute a where a.attrelid = source and a.attnum > 0 and not a.attisdropped
   order by a.attnum limit 1;
  execute format(
    'select count(n.%1$I), count(*) filter (where row(o.*) is distinct from row(n.*))
       from view.%2$I o
       full join view.%3$I n on n.%1$I = o.%1$I', key, p_name, p_name || '_next')
  into rows, differing;
end $$;
