-- The log for people with psql: payload and actor as jsonb (219_as_json.sql). Bytes that are hashed are in log.events.
create or replace view log.event_json as
  select e.position, e.recorded_at, e.stream_id, e.version, e.type, e.schema_version,
         log.as_json(e.payload) as payload, log.as_json(convert_to(e.actor, 'UTF8')) as actor,
         e.event_id, e.causation_id, e.correlation_id, encode(e.trace_id, 'hex') as trace_id,
         encode(e.span_id, 'hex') as span_id, e.occurred_at
    from log.events e;
