-- Bytes as jsonb, for people: what is none comes as {"unreadable": its bytes with escapes}, so that one bad row does not
-- close a view for all others. jsonb refuses the escape of a NUL: it is shown as U+FFFD. Locks nothing, never raises.
create or replace function log.as_json(p_bytes bytea)
returns jsonb
language plpgsql immutable
as $$
begin
  return regexp_replace(convert_from(p_bytes, 'UTF8'), '(?<!\\)((?:\\\\)*)\\u0000', '\1\\ufffd', 'g')::jsonb;
exception
  when others then
    return jsonb_build_object('unreadable', encode(p_bytes, 'escape'));
end $$;
