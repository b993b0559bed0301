-- The log. Positions are gapless and in order of commit (210_append_batch.sql), so a reader that asks for
-- "position > last" misses nothing. Partitioned by position: old partitions can be exported, verified and detached.
-- Uniqueness of ids and versions across partitions lives in event_key and streams.
create table log.events (
  position        bigint                not null,
  event_id        uuid                  not null,
  stream_id       text    collate "C"   not null,
  version         integer               not null,
  type            text    collate "C"   not null,
  schema_version  smallint              not null,
  payload         bytea                 not null,  -- canonical JSON, exactly the bytes that are hashed
  actor           text    collate "C"   not null,  -- canonical JSON
  causation_id    uuid,
  correlation_id  uuid,
  trace_id        bytea,
  span_id         bytea,
  occurred_at     timestamptz           not null,  -- the writer's clock
  recorded_at     timestamptz           not null,  -- this database's clock; never goes back along position
  constraint events_pk            primary key (position),
  constraint events_payload_size  check (octet_length(payload) <= 65536),
  constraint events_trace_size    check (octet_length(trace_id) = 16),
  constraint events_span_size     check (octet_length(span_id) = 8)
) partition by range (position);

create table log.partitions (
  first_position  bigint not null,
  last_position   bigint not null,
  table_name      text   not null,
  constraint partitions_pk primary key (first_position)
);
