-- What was proxied, one row an exchange, and for those that were told as sums one row a container and reason, with kind
-- 'sum'. sum(exchanges) of a session counts each once. ended_at is null while one is open; an end that was told in a
-- sum is in that row's closed. No path, no address: those are sealed in the log.
create table view.exchanges (
  exchange_id    text         not null,
  session_id     text         not null,
  container      text         not null,
  kind           text         not null,
  method         text,
  status         bigint,
  bytes_in       bigint,
  bytes_out      bigint,
  first_byte_us  bigint,
  duration_us    bigint,
  began_at       timestamptz,
  ended_at       timestamptz,
  ended_by       text,
  error          text,
  reason         text,
  exchanges      bigint,
  failed         bigint,
  closed         bigint,
  state          bytea        not null,
  constraint exchanges_pk primary key (exchange_id)
);
create index exchanges_session on view.exchanges (session_id, began_at);
create index exchanges_open    on view.exchanges (session_id) where ended_at is null;
