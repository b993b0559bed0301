-- Whether every part that is given holds for an event; of the session and the actor, whether it may (277_search_log.sql).
-- Cheap parts first. No settings of its own, so that it becomes part of the query that asks. Locks nothing.
create or replace function log.is_wanted(
  p_event log.events, p_stream text, p_types text[], p_session text, p_actor text, p_trace bytea,
  p_correlation uuid, p_causation uuid
) returns boolean
language sql immutable
as $$
  select (p_correlation is null or p_event.correlation_id = p_correlation)
     and (p_causation is null or p_event.causation_id = p_causation)
     and (p_trace is null or p_event.trace_id = p_trace)
     and (p_stream is null or p_event.stream_id = p_stream)
     and (p_types is null or p_event.type like any (p_types))
     and (p_session is null or log.session_names(p_event.stream_id, p_event.payload) && array[p_session, '\'])
     and (p_actor is null or log.actor_names(p_event.actor) && array[p_actor, '\']);
$$;
