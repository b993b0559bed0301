-- The newest changes of a session's health, the newest first, as its row in health_history keeps them: at most 50, and
-- its column dropped counts the older ones, which the log has. A function and no view, as view.token_history.
-- Locks nothing.
create or replace function view.health_timeline(p_session_id text)
returns table (
  "position" bigint, changed_at timestamptz, container text, before text, after text, reason text, failures bigint,
  response_us bigint
)
language sql stable
set search_path = view, pg_temp
as $$
  select (c ->> 0)::bigint, (c ->> 1)::timestamptz, c ->> 2, c ->> 3, c ->> 4, c ->> 5, (c ->> 6)::bigint,
         (c ->> 7)::bigint
    from health_history h
   cross join jsonb_array_elements(convert_from(h.state, 'UTF8')::jsonb -> 'timeline') as told(c)
   where h.session_id = p_session_id
   order by 1 desc;
$$;
