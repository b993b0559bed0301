-- Who holds the seats: one row for the whole system. taken: session id -> the generation that took the seat.
create table view.admission (
  name     text     not null,
  version  bigint   not null,
  seats    bigint   not null,
  taken    jsonb    not null,
  state    bytea    not null,
  constraint admission_pk primary key (name)
);
