-- Every event id ever written, with its unit: "nth of size" tells a repeated unit from a mixture of former ones.
create table log.event_key (
  event_id  uuid     not null,
  position  bigint   not null,
  nth       smallint not null,
  size      smallint not null,
  constraint event_key_pk primary key (event_id)
);
