-- append_batch for a batch that nothing stands against, as nearly all are: one event a unit, no id twice or known, no
-- lease, every expectation true. Any other is handed to append_batch, which decides it unit by unit.
-- Arguments, locks, promises and errors are those of append_batch. p_notify: false when the caller sees to it that a later
-- notification tells of these too (events/notices.py). Handed to append_batch, a batch that appends always tells.
-- Returns one row ('A', the first position, one version an event), or the rows of append_batch with null versions.
create or replace function log.append_plain(
  p_streams text[], p_unit int[], p_stream int[], p_expected int[],
  p_id uuid[], p_type text[], p_schema_version smallint[], p_payload bytea[], p_actor text[],
  p_causation uuid[], p_correlation uuid[], p_trace bytea[], p_span bytea[], p_occurred timestamptz[],
  p_lease text[], p_epoch bigint[], p_notify boolean
) returns table (ord int, outcome text, at_position bigint, at_version int, versions int[])
language plpgsql security definer
set search_path = log, pg_temp
set enable_seqscan = off     -- as in 210_append_batch.sql
set enable_hashjoin = off
set enable_mergejoin = off
as $$
declare
  n        int := cardinality(p_id);
  old_tip  tid;  was_at bigint;  tip_at bigint;  now_at timestamptz;
  heads    int[];   firsts bigint[];   lasts bigint[];   old_heads tid[];   -- one element a stream
  ver      int[] := array_fill(null::int, array[n]);
  sound    boolean;  plain boolean;  s int;
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'append_plain needs a read committed transaction' using errcode = 'GW001';
  end if;
  perform pg_advisory_xact_lock(7201, 1);              -- its own statement: the next one sees what was committed
  -- A name that has a head was looked at when it was new (check_streams).
  select t.position, t.recorded_at, t.ctid, h.*,
         p_unit[n] = n and cardinality(array_remove(p_lease, null)) = 0
           and not exists (select from event_key e where e.event_id = any (p_id))
           and (select count(distinct a.id) from unnest(p_id) a(id)) = n
    into was_at, now_at, old_tip, heads, firsts, lasts, old_heads, sound, plain
    from (select *, ctid from tip order by position desc limit 1) t, (
      select array_agg(coalesce(a.version, 0) order by a.nr), array_agg(a.first_position order by a.nr),
             array_agg(null::bigint order by a.nr), array_agg(a.ctid order by a.nr),
             count(distinct a.stream_id) = count(*) and bool_and((a.version is not null
               or a.stream_id ~ '^[a-z]+(-[0-9A-Za-z_.-]+)?$' and length(a.stream_id) <= 110) is true)
        from (select u.stream_id collate "C" as stream_id, u.nr, l.version, l.first_position, l.ctid
                from unnest(p_streams) with ordinality u(stream_id, nr)
                left join lateral (select *, t.ctid from streams t where t.stream_id = u.stream_id
                                    order by t.version desc limit 1) l on true) a) h;
  if sound is not true then
    raise exception 'a batch names a stream twice, or what is no stream' using errcode = 'GW005';
  end if;
  for k in 1..n loop
    exit when not plain;
    s := p_stream[k];
    plain := coalesce(p_expected[k] = heads[s], true);
    heads[s] := heads[s] + 1;  ver[k] := heads[s];  lasts[s] := was_at + k;
    if firsts[s] is null then firsts[s] := was_at + k; end if;
  end loop;
  if plain is not true then
    return query select b.*, null::int[] from append_batch(
      p_streams, p_unit, p_stream, p_expected, p_id, p_type, p_schema_version, p_payload, p_actor, p_causation,
      p_correlation, p_trace, p_span, p_occurred, p_lease, p_epoch) b;
    return;
  end if;
  tip_at := was_at + n;  now_at := greatest(now_at, clock_timestamp());
  -- unnest here and not behind "from", where each array would first be copied into a table of its own.
  insert into events
    select e.position, e.id, p_streams[e.stream], e.version, e.type, e.schema_version, e.payload, e.actor,
           e.causation, e.correlation, e.trace, e.span, e.occurred, now_at
      from (select generate_series(was_at + 1, tip_at) as position, unnest(p_id) as id, unnest(p_stream) as stream,
                   unnest(ver) as version, unnest(p_type) as type, unnest(p_schema_version) as schema_version,
                   unnest(p_payload) as payload, unnest(p_actor) as actor, unnest(p_causation) as causation,
                   unnest(p_correlation) as correlation, unnest(p_trace) as trace, unnest(p_span) as span,
                   unnest(p_occurred) as occurred) e;
  insert into event_key select unnest(p_id), generate_series(was_at + 1, tip_at), 1, 1;
  delete from streams where ctid = any (old_heads);
  insert into streams select unnest(p_streams), unnest(heads), unnest(firsts), unnest(lasts);
  insert into tip values (tip_at, now_at);
  delete from tip where ctid = old_tip;
  if p_notify then
    perform pg_notify('gateway_log', tip_at::text);             -- one a batch: one an event costs 74 %
  end if;
  return query select 0, 'A', was_at + 1, null::int, ver;
end $$;
