-- Whether view.NAME_next is there and made like view.NAME is now: a change of the schema since it was begun may have
-- given NAME a column or an index. Locks nothing.
create or replace function view.rebuild_fits(p_name text)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  with shape as (
    select c.relname,
           (select array_agg(format('%s %s %s', a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull)
                             order by a.attnum)
              from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped) as columns,
           (select array_agg(x.shape order by x.shape)
              from pg_index i
             cross join lateral (
               select split_part(pg_get_indexdef(i.indexrelid), ' USING ', 2) || i.indisunique || i.indisprimary
             ) x(shape)
             where i.indrelid = c.oid) as indexes,
           (select array_agg(pg_get_constraintdef(k.oid) order by pg_get_constraintdef(k.oid))
              from pg_constraint k where k.conrelid = c.oid and k.contype = 'c') as checks
      from pg_class c
      join pg_namespace n on n.oid = c.relnamespace
     where n.nspname = 'view' and c.relname in (p_name, p_name || '_next') and c.relkind = 'r'
  )
  select count(*) = 2
     and count(distinct columns) = 1
     and count(distinct coalesce(indexes, '{}')) = 1
     and count(distinct coalesce(checks, '{}')) = 1
    from shape;
$$;
