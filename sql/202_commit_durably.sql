-- Makes the transaction that calls it wait for the disk when it commits, and for the synchronous standbys if there are
-- any, whatever the session, the role or the database says: a trigger of tables whose rows are answered for.
-- Stronger than "on" is only remote_apply, which stays. Locks nothing.
create or replace function log.commit_durably()
returns trigger
language plpgsql
as $$
begin
  if current_setting('synchronous_commit') not in ('on', 'remote_apply') then
    perform set_config('synchronous_commit', 'on', true);  -- to the end of the transaction
  end if;
  return null;
end $$;
