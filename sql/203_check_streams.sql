-- Refuses what is no name of a stream, and one that stands twice: append_batch counts versions by its place.
-- Locks nothing. Raises GW005. Which families there are is the gateway's to know; to spell them costs four times as much.
create or replace function log.check_streams(p_streams text[])
returns void
language plpgsql immutable
as $$
begin
  if (select count(distinct s.id) < count(*)
          or not bool_and(s.id is not null and s.id ~ '^[a-z]+(-[0-9A-Za-z_.-]+)?$' and length(s.id) <= 110)
        from unnest(p_streams) s(id)) then
    raise exception 'a batch names a stream twice, or what is no stream' using errcode = 'GW005';
  end if;
end $$;
