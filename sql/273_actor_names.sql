-- The names under which an event's actor may be looked for, its key's id and KIND:ID: at least those of events/filter.py.
-- '\', which is none, when it is not written as the gateway writes it, or with escapes: only a reader of JSON can tell
-- then, and a search looks at each such event. Locks nothing, never raises.
create or replace function log.actor_names(p_actor text)
returns text[]
language plpgsql immutable
as $$
declare
  -- {"assurance":"..","id":"..","key_id":"..","kind":"..","on_behalf_of":{"c":"..","k":"..","n":".."}} between its
  -- quotes; key_id and on_behalf_of may be null. As a regular expression this took 140 us an event.
  part    text[] := string_to_array(p_actor collate "C", '"');
  kind_at int    := case when part[11] = ':null,' then 12 else 14 end;
  rest    text[] := part[kind_at + 5:];
begin
  if strpos(p_actor, '\') = 0
     and (part[1], part[2], part[3], part[5], part[6], part[7], part[9], part[10])
       = ('{', 'assurance', ':', ',', 'id', ':', ',', 'key_id')
     and (kind_at = 12 or (part[11], part[13]) = (':', ','))
     and (part[kind_at], part[kind_at + 1], part[kind_at + 3], part[kind_at + 4]) = ('kind', ':', ',', 'on_behalf_of')
     and (rest = array[':null}']
          or cardinality(rest) = 13
         and (rest[1], rest[3], rest[5], rest[7], rest[9], rest[11], rest[13]) = (':{', ':', ',', ':', ',', ':', '}}'))
  then
    return case when kind_at = 12 then array[part[14] || ':' || part[8]]
                else array[part[12], part[16] || ':' || part[8]] end;
  end if;
  return array['\'];
end $$;
