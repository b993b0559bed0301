-- An auditor's reading, told before it is made: appends log.read and returns its id, the ticket for log.read_announced.
-- Locks: those of append_batch. Commit it: a ticket that could still be taken back opens nothing.
-- p_until: null is the head. p_stream: null for the whole log. p_types: empty for all, else tags, families (session.*).
-- p_purpose: why, in a line of at most 500 characters; needed for the stream of a session or of a container. It stands
-- in the log in clear: the database has no keys to seal it with.
-- Raises GW002 for a range, stream, type or purpose that cannot be meant, or a purpose that is missing.
create or replace function log.announce_read(
  p_after bigint default 0, p_until bigint default null, p_stream text default null, p_types text[] default '{}',
  p_purpose text default null
) returns uuid
language plpgsql security definer
set search_path = log, pg_temp
as $$
declare
  ticket   uuid := uuid7();
  until_at bigint := p_until;
  told     text;
begin
  if until_at is null then
    select t.position into until_at from tip t order by t.position desc limit 1;
  end if;
  if p_after is null or p_after < 0 or until_at <= p_after then
    raise exception 'nothing stands between position % and %', p_after, until_at using errcode = 'GW002';
  end if;
  if p_stream !~ '^((session|container|gateway)-[0-9A-Za-z_.-]{1,100}|admission|keys|system)$' then
    raise exception '% is not the name of a stream', quote_literal(p_stream) using errcode = 'GW002';
  end if;
  if p_types is null or exists (
      select from unnest(p_types) t where t is null or t !~ '^[a-z_]{1,50}\.([a-z_]{1,50}|\*)$') then
    raise exception 'p_types holds what is neither a type nor a family' using errcode = 'GW002';
  end if;
  if p_purpose is null and p_stream ~ '^(session|container)-' then
    raise exception 'this reads one session: say in p_purpose why' using errcode = 'GW002';
  end if;
  -- Nor controls, separators of lines, or what turns the direction of a text.
  if length(p_purpose) > 500 or p_purpose !~ '[^[:space:]]'
      or p_purpose ~ '[\u0001-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]' then
    raise exception 'a purpose is one line of words, in at most 500 characters' using errcode = 'GW002';
  end if;
  -- Canonical JSON, as the gateway writes it: sorted keys, no blanks. Only the purpose can need escapes: to_json's are
  -- the same.
  told := format(
    '{"actor":null,"after":%s,"correlation_id":null,"purpose":%s,"session_id":%s,"stream":%s,"trace_id":null,'
    '"type":"log.read","types":[%s],"until":%s,"what":"sql"}',
    p_after, coalesce(to_json(p_purpose)::text, 'null'),
    coalesce('"' || substring(p_stream from '^session-(.*)$') || '"', 'null'),
    coalesce('"' || p_stream || '"', 'null'),
    (select string_agg('"' || t || '"', ',') from unnest(p_types) t), until_at);
  perform append_batch(
    array['system'], array[1], array[1], array[null::int], array[ticket], array['log.read'], array[2::smallint],
    array[convert_to(told, 'UTF8')], array[reading_actor()], array[null::uuid], array[null::uuid], array[null::bytea],
    array[null::bytea], array[clock_timestamp()], array[null::text], array[null::bigint]);
  return ticket;
end $$;
