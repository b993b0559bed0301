-- Refuses whatever would change or remove what was written, also to the owner of the tables.
create or replace function log.refuse_rewrite()
returns trigger
language plpgsql
as $$
begin
  raise exception 'the log is append-only: % on %.% is refused', tg_op, tg_table_schema, tg_table_name
    using errcode = 'GW010';
end $$;
