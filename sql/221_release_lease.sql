-- Gives a lease back at once, so that the next holder need not wait for it to run out. Its epoch is kept.
create or replace function view.release_lease(p_name text, p_holder text)
returns void
language sql
security definer
set search_path = view, pg_temp
as $$
  update lease set expires_at = clock_timestamp() where name = p_name and holder = p_holder;
$$;
