-- Rebuilds of tables: how far view.NAME_next holds the log, by which fold, and until when what came of it is not told.
-- position, event_id and recorded_at are a mark, as in projection_checkpoint; updated_at is another one after every move.
-- told_id and told are the event projection.rebuilt. They are written with the swap, so that a process that dies between
-- swap and append leaves it for the next one to append; then the row goes.
create table view.projection_rebuild (
  name         text         not null,
  version      integer      not null,
  log_id       uuid         not null,
  position     bigint       not null default 0,
  event_id     uuid,
  recorded_at  timestamptz,
  reason       text         not null,
  started_at   timestamptz  not null default clock_timestamp(),
  updated_at   timestamptz  not null default clock_timestamp(),
  told_id      uuid,
  told         bytea,
  constraint projection_rebuild_pk   primary key (name),
  constraint projection_rebuild_told check ((told_id is null) = (told is null))
);
