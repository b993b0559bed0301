-- How far each table of a projection holds the log: written in the same transaction as its rows.
-- position, event_id and recorded_at are a mark: where they are not the log's any more, the log has forked.
-- version is the fold's: a table of another version is made anew beside, then takes its place.
-- epoch is that of the last holder of the lease "projector": a former one finds it higher than its own.
create table view.projection_checkpoint (
  name         text         not null,
  version      integer      not null,
  log_id       uuid         not null,
  position     bigint       not null,
  event_id     uuid,
  recorded_at  timestamptz,
  epoch        bigint       not null default 0,
  updated_at   timestamptz  not null default clock_timestamp(),
  constraint projection_checkpoint_pk primary key (name)
);
