-- What an auditor with a login of his own may do: announce a reading, and read what he announced. No table, no view, no
-- other function; the role is given to him by whoever runs the database. Not there where roles could not be made.
do $$
begin
  if exists (select from pg_roles where rolname = 'session_gateway_auditor') then
    grant usage on schema log to session_gateway_auditor;
    grant execute on function log.announce_read, log.read_announced to session_gateway_auditor;
  end if;
end $$;
