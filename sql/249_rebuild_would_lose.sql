-- What stands on the table of the projection p_name and would not be on the one that a rebuild puts in its place, or
-- would go with it, each as Postgres calls it: row-level security, policies, triggers, rules, publications that name
-- it, foreign keys, inheritance, and what others made from it. Empty: nothing. What is copied (indexes, checks, rights,
-- options, comments) is not told. Locks nothing.
create or replace function view.rebuild_would_lose(p_name text)
returns text[]
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  with former as (
    select c.oid, c.relrowsecurity, c.relforcerowsecurity, c.reltype
      from pg_class c where c.oid = view.projection_table(p_name)
  ), found (what) as (
    select 'row-level security' from former where relrowsecurity or relforcerowsecurity
    union
    select pg_describe_object('pg_policy'::regclass, p.oid, 0) from former f join pg_policy p on p.polrelid = f.oid
    union
    select pg_describe_object('pg_trigger'::regclass, t.oid, 0)
      from former f join pg_trigger t on t.tgrelid = f.oid and not t.tgisinternal
    union
    select pg_describe_object('pg_rewrite'::regclass, r.oid, 0) from former f join pg_rewrite r on r.ev_class = f.oid
    union
    select format('publication %I', p.pubname)
      from former f
      join pg_publication_rel m on m.prrelid = f.oid
      join pg_publication p on p.oid = m.prpubid
    union
    select pg_describe_object('pg_constraint'::regclass, k.oid, 0)
      from former f join pg_constraint k on k.contype = 'f' and f.oid in (k.conrelid, k.confrelid)
    union
    select format('inheritance with %s', case f.oid when i.inhrelid then i.inhparent else i.inhrelid end::regclass)
      from former f join pg_inherits i on f.oid in (i.inhrelid, i.inhparent)
    union
    select pg_describe_object('pg_class'::regclass, r.ev_class, 0)
      from former f
      join pg_depend d on d.refclassid = 'pg_class'::regclass and d.refobjid = f.oid
      join pg_rewrite r on d.classid = 'pg_rewrite'::regclass and r.oid = d.objid and r.ev_class <> f.oid
    union
    select pg_describe_object(d.classid, d.objid, d.objsubid)
      from former f
      join pg_depend d on d.deptype = 'n'
       and (d.refclassid, d.refobjid) in (('pg_class'::regclass, f.oid), ('pg_type'::regclass, f.reltype))
       and d.classid in ('pg_proc'::regclass, 'pg_class'::regclass)
  )
  select coalesce(array_agg(what order by what), '{}') from found;
$$;
