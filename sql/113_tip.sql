-- The last position and its time: one live row whose key moves, as in streams.
create table log.tip (
  position     bigint      not null,
  recorded_at  timestamptz not null,
  constraint tip_pk primary key (position)
);
insert into log.tip (position, recorded_at) values (0, 'epoch');
