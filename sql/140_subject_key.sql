-- The keys of sealed personal fields, outside the log: deleting a row erases the subject (spec row C7).
create table view.subject_key (
  key_id      text        not null,  -- random; what events carry
  subject     bytea       not null,  -- keyed hash of the subject's name
  wrapped     bytea       not null,  -- the key, encrypted under the gateway's sealing secret
  created_at  timestamptz not null default clock_timestamp(),
  constraint subject_key_pk       primary key (key_id),
  constraint subject_key_subject  unique (subject)
);
