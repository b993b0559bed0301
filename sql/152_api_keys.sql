-- API keys: what they open and until when. sha256 is all that is known of a key.
create table view.api_keys (
  key_id      text         not null,
  name        text         not null,
  role        text         not null,
  sha256      text         not null,
  created_at  timestamptz  not null,
  expires_at  timestamptz,
  revoked_at  timestamptz,
  state       bytea        not null,
  constraint api_keys_pk primary key (key_id)
);
