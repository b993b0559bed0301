-- How each session's containers answered. p95_us is the upper bound of the histogram's bucket that it is in, since
-- answers are told in buckets. state holds the histogram and the timeline: the newest changes, each as position, time,
-- container, before, after, reason, failures, response_us; dropped counts the older ones.
create table view.health_history (
  session_id  text         not null,
  status      text         not null,
  since       timestamptz,
  container   text         not null,
  checks      bigint,
  healthy     bigint,
  failed      bigint,
  average_us  bigint,
  p95_us      bigint,
  slowest_us  bigint,
  first_at    timestamptz,
  last_at     timestamptz,
  dropped     bigint       not null,
  state       bytea        not null,
  constraint health_history_pk primary key (session_id)
);
create index health_history_status on view.health_history (status);
