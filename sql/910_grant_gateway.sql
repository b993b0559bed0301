-- What the gateway may do: read the log, call its functions, and work in its own schema. Nothing writes log tables but
-- the functions. The role is the setting gateway.app_role; when it owns the log, rights are not separated.
do $$
declare
  app text := current_setting('gateway.app_role');
begin
  execute format('grant usage on schema log, view to %I', app);
  execute format('grant select on all tables in schema log to %I', app);
  execute format('grant select, insert, update, delete on all tables in schema view to %I', app);
  revoke execute on all functions in schema log, view from public;
  execute format('grant execute on all functions in schema log, view to %I', app);
end $$;
