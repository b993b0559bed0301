-- The log for people with psql: payload and actor as jsonb. Bytes that are hashed are in log.events.
-- jsonb refuses the escape of a NUL: it is shown as U+FFFD, else one such text would close the view for all events.
create or replace view log.event_json as
  select e.position, e.recorded_at, e.stream_id, e.version, e.type, e.schema_version,
         regexp_replace(convert_from(e.payload, 'UTF8'),
                        '(?<!\\)((?:\\\\)*)\\u0000', '\1\\ufffd', 'g')::jsonb as payload,
         regexp_replace(e.actor, '(?<!\\)((?:\\\\)*)\\u0000', '\1\\ufffd', 'g')::jsonb as actor,
         e.event_id, e.causation_id, e.correlation_id, encode(e.trace_id, 'hex') as trace_id,
         encode(e.span_id, 'hex') as span_id, e.occurred_at
    from log.events e;
