-- Whose keys were destroyed: one row for the whole system. subjects: how many; their key ids, which name nobody, are
-- in state.
create table view.erasures (
  name      text    not null,
  subjects  bigint  not null,
  state     bytea   not null,
  constraint erasures_pk primary key (name)
);
