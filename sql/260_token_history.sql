-- The tokens of one session, the newest first, each with the moment when the next one ended it (null: none has) and the
-- moment it ended at the latest: revoked, superseded or expired, whichever came first. A function and no view: a view
-- would hold on to the table that a rebuild replaces. Locks nothing.
create or replace function view.token_history(p_session_id text)
returns table (
  serial bigint, sha256 text, issued_at timestamptz, expires_at timestamptz, revealed bigint, revealed_at timestamptz,
  revoked_at timestamptz, reason text, superseded_at timestamptz, ends_at timestamptz
)
language sql stable
set search_path = view, pg_temp
as $$
  with told as (
    select t.*, lead(t.issued_at) over (order by t.serial) as superseded_at
      from tokens t
     where t.session_id = p_session_id
  )
  select serial, sha256, issued_at, expires_at, revealed, revealed_at, revoked_at, reason, superseded_at,
         least(revoked_at, superseded_at, expires_at)
    from told
   order by serial desc;
$$;
