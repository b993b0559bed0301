-- Takes or renews a lease for p_seconds; the epoch, or null while another holder's has not run out.
-- Locks: the append lock 7201/1 when the holder changes, else a stale holder could slip in between the check of its
-- epoch and its commit. A renewal needs none, nor does who finds another's lease in force: many ask, and often.
create or replace function view.claim_lease(p_name text, p_holder text, p_seconds double precision)
returns bigint
language plpgsql
security definer
set search_path = view, pg_temp
as $$
declare
  held bigint;
begin
  update lease set expires_at = clock_timestamp() + make_interval(secs => p_seconds)
   where name = p_name and holder = p_holder and expires_at > clock_timestamp()
   returning epoch into held;
  if found then
    return held;
  end if;
  if exists (select from lease where name = p_name and holder <> p_holder and expires_at > clock_timestamp()) then
    return null;
  end if;
  perform pg_advisory_xact_lock(7201, 1);
  insert into lease as l values (p_name, p_holder, 1, clock_timestamp() + make_interval(secs => p_seconds))
  on conflict on constraint lease_pk do update
     set holder = excluded.holder, epoch = l.epoch + 1, expires_at = excluded.expires_at
   where l.expires_at <= clock_timestamp()
   returning epoch into held;
  return held;
end $$;
