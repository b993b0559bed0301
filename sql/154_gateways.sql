-- Runs of gateway processes: when each began, when and how it ended.
create table view.gateways (
  instance    text         not null,
  started_at  timestamptz  not null,
  ended_at    timestamptz,
  crashed     boolean      not null,
  state       bytea        not null,
  constraint gateways_pk primary key (instance)
);
