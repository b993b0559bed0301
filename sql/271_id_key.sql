-- The key under which a trace, a correlation or a causation id of 16 bytes stands in the index: its last eight, which
-- are random in all of them. A request's trace and correlation have the same digits, and so one row. Locks nothing.
create or replace function log.id_key(p_id bytea)
returns bigint
language sql immutable
as $$
  select ('x' || encode(substr(p_id, 9, 8), 'hex'))::bit(64)::bigint;
$$;
