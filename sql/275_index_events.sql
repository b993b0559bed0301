-- Brings the index of the log (170_event_index.sql) one step further: at most p_limit events (32,767), or 4 MiB of them.
-- Locks: 7201/3, so that two do not meet; appends and readers go through beside it.
-- Returns how many events are still to go, or null at once while another is at it. Nothing is skipped, nothing is
-- entered twice. The commit does not wait for the disk: a step that is lost in a crash is made again.
-- Raises GW001 unless read committed: an older snapshot does not see the step before.
create or replace function log.index_events(p_limit int)
returns bigint
language plpgsql security definer
set search_path = log, pg_temp
set enable_seqscan = off     -- as in 212_read_log.sql: a log without statistics
set enable_bitmapscan = off
set jit = off
as $$
declare
  tip_at  bigint;
  was_at  bigint;
  now_at  bigint;
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'index_events needs a read committed transaction' using errcode = 'GW001';
  end if;
  if not pg_try_advisory_xact_lock(7201, 3) then
    return null;
  end if;
  select i.position into was_at from indexed i order by i.position desc limit 1;
  select t.position into tip_at from tip t order by t.position desc limit 1;
  -- A step ends with its segment at the latest.
  now_at := least(tip_at, was_at + least(p_limit, 32767), ((((was_at + 1) >> 20) + 1) << 20) - 1);
  if now_at <= was_at then
    return tip_at - was_at;
  end if;
  if pg_current_xact_id_if_assigned() is null then  -- nothing else was written in this transaction
    perform set_config('synchronous_commit', 'off', true);
  end if;
  select greatest(was_at + 1, least(now_at, min(e.position) - 1)) into now_at
    from (select e.position, sum(octet_length(e.payload)) over (order by e.position) as bytes
            from events e where e.position > was_at and e.position <= now_at) e
   where e.bytes > 4194304;
  insert into event_index (segment, place, key, earlier)
  with seen as materialized (
    select e.position, e.type, e.actor, e.correlation_id, e.causation_id, e.trace_id,
           session_names(e.stream_id, e.payload) as sessions
      from events e where e.position > was_at and e.position <= now_at
  ), ids as (
    select id_key(uuid_send(s.correlation_id)) as key, s.position from seen s
    union all select id_key(uuid_send(s.causation_id)), s.position from seen s
    union all select id_key(s.trace_id), s.position from seen s
               where s.trace_id is distinct from uuid_send(s.correlation_id)
  ), names as (
    select 'session:' || n.name as name, s.position from seen s cross join lateral unnest(s.sessions) n(name)
    union all select 'actor:' || n.name, s.position from seen s cross join lateral unnest(actor_names(s.actor)) n(name)
    union all select 'type:' || s.type, s.position from seen s
    union all select 'family:' || split_part(s.type, '.', 1), s.position from seen s
  ), keys as (  -- a name is hashed once in a step, and may share its key with another
    select i.key, i.position from ids i where i.key is not null
    union all
    select n.key, unnest(n.positions)
      from (select name_key(name) as key, array_agg(position) as positions from names group by name) n
  ), places as (
    select k.key, max(k.position) as last, array_agg(k.position) as positions from keys k group by k.key
  )
  select (p.last >> 20)::int, (p.last & 1048575)::int, p.key,
         case when cardinality(p.positions) > 1
              then array(select (p.last - other)::smallint from unnest(p.positions) other where other < p.last) end
    from places p
   order by p.key;
  insert into indexed values (now_at);
  delete from indexed i where i.position = was_at;
  return tip_at - now_at;
end $$;
