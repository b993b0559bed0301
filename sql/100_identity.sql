-- Which log this is. One row, written once; every cursor, checkpoint and hash names log_id.
create table log.identity (
  log_id          uuid        not null,
  partition_size  bigint      not null,
  created_at      timestamptz not null default clock_timestamp(),
  only_row        boolean     not null default true,
  constraint identity_one_row  primary key (only_row),
  constraint identity_only_row check (only_row),
  constraint identity_size     check (partition_size > 0)
);
insert into log.identity (log_id, partition_size)
values (gen_random_uuid(), coalesce(nullif(current_setting('gateway.partition_size', true), '')::bigint, 10000000));
