-- One holder for a named job, on the database's clock. The epoch rises with every new holder and fences the old one.
create table view.lease (
  name        text        not null,
  holder      text        not null,
  epoch       bigint      not null,
  expires_at  timestamptz not null,
  constraint lease_pk primary key (name)
);
