-- Gives p_to the rights, the options and the comment of p_from, which "like" does not copy. Rights of p_to that p_from
-- has not are taken. For the functions of the rebuild, which run as the owner: nobody else may call it with success.
create or replace function view.copy_rights(p_from regclass, p_to regclass)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  given record;
begin
  for given in
    select a.grantee from pg_class c, aclexplode(c.relacl) a where c.oid = p_to and a.grantee <> c.relowner
    union
    select x.grantee
      from pg_class c
      join pg_attribute t on t.attrelid = c.oid and not t.attisdropped
     cross join aclexplode(t.attacl) x
     where c.oid = p_to and x.grantee <> c.relowner
  loop  -- with those on the table go those on its columns
    execute format('revoke all on table %s from %s', p_to, view.grantee(given.grantee));
  end loop;
  for given in
    select a.privilege_type as may, a.grantee, a.is_grantable, null::name as of_column
      from pg_class c, aclexplode(c.relacl) a
     where c.oid = p_from and a.grantee <> c.relowner
    union all
    select x.privilege_type, x.grantee, x.is_grantable, t.attname
      from pg_class c
      join pg_attribute t on t.attrelid = c.oid and not t.attisdropped
     cross join aclexplode(t.attacl) x
     where c.oid = p_from and x.grantee <> c.relowner
  loop
    execute format('grant %s%s on table %s to %s%s', given.may, ' (' || quote_ident(given.of_column) || ')', p_to,
                   view.grantee(given.grantee), case when given.is_grantable then ' with grant option' else '' end);
  end loop;
  for given in select unnest(c.reloptions) as option from pg_class c where c.oid = p_from loop
    execute format('alter table %s set (%s)', p_to, given.option);
  end loop;
  execute format('comment on table %s is %L', p_to, obj_description(p_from, 'pg_class'));
end $$;
