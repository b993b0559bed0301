-- Every session token there ever was: its hash, never the token. token is SESSION/SERIAL. A token also ends when the
-- next serial of its session is issued: view.token_history says when.
create table view.tokens (
  token        text         not null,
  session_id   text         not null,
  serial       bigint,
  sha256       text,
  secret_id    text,
  issued_at    timestamptz,
  expires_at   timestamptz,
  revealed     bigint       not null,
  revealed_at  timestamptz,
  revoked_at   timestamptz,
  reason       text,
  state        bytea        not null,
  constraint tokens_pk primary key (token)
);
create index tokens_session on view.tokens (session_id, serial);
create index tokens_sha256  on view.tokens (sha256);
