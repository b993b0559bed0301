-- What is true of each session, for SQL; state is the whole of it, as a process goes on from it.
-- auth_token is the SHA-256 of the newest token, never the token. metadata is in its sealed form. host_dir names the
-- volume of its workspace. status is null for a session that only stray facts speak of.
create table view.sessions (
  session_id      text         not null,
  container_name  text,
  container_id    text,
  host_dir        text,
  port            bigint,
  auth_token      text,
  created_at      timestamptz,
  last_accessed   timestamptz,
  status          text,
  metadata        jsonb,
  state           bytea        not null,
  constraint sessions_pk      primary key (session_id),
  constraint sessions_status  check (status in ('creating', 'running', 'stopped', 'error'))
);
create index sessions_status        on view.sessions (status);
create index sessions_last_accessed on view.sessions (last_accessed);
create index sessions_created_at    on view.sessions (created_at);
