-- The newest comparison of each table with a fold of the log up to its own position, and in how many rows it differed:
-- those that it lacks, that the log knows nothing of, that say otherwise. rows: of the table.
-- verified_at: the moment of the snapshot that was compared, not of the end, which may be long after.
-- A rebuild proves too: what it put there is such a fold.
create table view.projection_proof (
  name         text         not null,
  version      integer      not null,
  position     bigint       not null,
  rows         bigint       not null,
  differing    bigint       not null,
  missing      bigint       not null default 0,
  extra        bigint       not null default 0,
  changed      bigint       not null default 0,
  verified_at  timestamptz  not null default clock_timestamp(),
  constraint projection_proof_pk primary key (name)
);
