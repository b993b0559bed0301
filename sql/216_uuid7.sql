-- A new UUID of version 7 (RFC 9562 section 5.7): 48 bits of milliseconds, then random ones. Locks nothing.
create or replace function log.uuid7()
returns uuid
language sql volatile
set search_path = log, pg_temp
as $$
  select encode(
    set_bit(set_bit(
      overlay(uuid_send(gen_random_uuid())
        placing substring(int8send(floor(extract(epoch from clock_timestamp()) * 1000)::bigint) from 3) from 1 for 6),
      52, 1), 53, 1), 'hex')::uuid;
$$;
