-- Which events a name or an id stands in, so that a search of the log need not read all of it: filled after the events,
-- by 275_index_events.sql, and no part of an append. It only proposes: whoever searches looks at the event itself.
-- A row is one key in one step of the index. Its places are counted within a segment of 2^20 positions, whose number
-- leads the key: a step writes to the pages of its own segment and never among those of the whole log.
create table log.event_index (
  segment  integer    not null,  -- position >> 20
  place    integer    not null,  -- of the last event of the step with this key: position & (2^20 - 1)
  key      bigint     not null,  -- 270_name_key.sql, 271_id_key.sql
  earlier  smallint[],           -- how far before that one the others stand; null: there are none
  constraint event_index_pk primary key (segment, key, place)
);

-- How far: one row whose key moves, as in tip.
create table log.indexed (
  position  bigint not null,
  constraint indexed_pk primary key (position)
);
insert into log.indexed (position) values (0);
