-- The key under which a name stands in the index, as 'session:ses_1', 'actor:gateway:g1', 'type:log.read': the first
-- eight bytes of its SHA-256. The same on every machine and release, for the rows stay. Locks nothing.
create or replace function log.name_key(p_name text)
returns bigint
language sql immutable
as $$
  select ('x' || encode(substr(sha256(convert_to(p_name, 'UTF8')), 1, 8), 'hex'))::bit(64)::bigint;
$$;
