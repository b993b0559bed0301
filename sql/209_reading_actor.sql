-- Who reads through SQL, as events name an actor: the role that logged in, whatever it has become since. Locks nothing.
-- Canonical JSON: to_json escapes as the gateway does.
create or replace function log.reading_actor()
returns text
language sql stable
set search_path = log, pg_temp
as $$
  select format('{"assurance":"none","id":%s,"key_id":null,"kind":"operator","on_behalf_of":null}',
                to_json('postgres:' || session_user::text));
$$;
