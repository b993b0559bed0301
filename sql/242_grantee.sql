-- A grantee of an access list as "grant" writes it: a quoted role, or public.
create or replace function view.grantee(p_role oid)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select case when p_role = 0 then 'public' else quote_ident(pg_get_userbyid(p_role)) end;
$$;
