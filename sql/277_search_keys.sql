-- The keys of the index under one of which whatever is searched for stands (170_event_index.sql): those of the part that
-- is likely the rarest. Null when the index is not the way: nothing is asked for, or a stream, which has a way of its own.
-- p_types: tags and families, as session.*. Locks nothing.
create or replace function log.search_keys(
  p_stream text, p_types text[], p_session text, p_actor text, p_trace bytea, p_correlation uuid, p_causation uuid
) returns bigint[]
language sql immutable
set search_path = log, pg_temp
as $$
  select case
    when p_correlation is not null then array[id_key(uuid_send(p_correlation))]
    when p_causation is not null   then array[id_key(uuid_send(p_causation))]
    when p_trace is not null       then array[id_key(p_trace)]
    when p_session is not null     then array[name_key('session:' || p_session), name_key('session:\')]
    when p_stream is not null      then null
    when p_actor is not null       then array[name_key('actor:' || p_actor), name_key('actor:\')]
    when p_types is not null       then array(
      select name_key(case when t like '%.*' then 'family:' || left(t, -2) else 'type:' || t end) from unnest(p_types) t)
    end;
$$;
