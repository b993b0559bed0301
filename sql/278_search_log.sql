-- Events beyond p_after, up to p_until (null: the tip), for which every part that is given holds, in order.
-- Returns a row an event, or one without an event, each with `reached`: every position up to it was looked at.
-- Locks nothing. Looks at p_looks single events and p_scan positions at most, and goes no further when it has p_limit.
-- As far as the index goes it goes by the keys of 277_search_keys.sql, or by the stream; what is asked for without
-- either, and all beyond the index, it reads one position after another. All of it is one snapshot.
-- p_types: tags and families, as session.*. Of a session or an actor that is written with escapes or beyond ASCII it
-- gives every event, so the caller looks whether it is the one that is meant (events/filter.py).
create or replace function log.search_log(
  p_after bigint default 0, p_until bigint default null, p_limit int default 100, p_looks int default 2000,
  p_scan int default 20000, p_stream text default null, p_types text[] default null, p_session text default null,
  p_actor text default null, p_trace bytea default null, p_correlation uuid default null, p_causation uuid default null
) returns table (reached bigint, event log.events)
language plpgsql stable
set search_path = log, pg_temp
set enable_seqscan = off     -- as in 212_read_log.sql
set enable_bitmapscan = off
set jit = off
as $$
declare
  keys      bigint[] := search_keys(p_stream, p_types, p_session, p_actor, p_trace, p_correlation, p_causation);
  rivals    bigint[];               -- the keys of the types, where another part leads and may be the less rare one
  types     text[];                 -- as LIKE patterns
  looked    bigint := p_after;      -- what is answered
  until_at  bigint;
  covered   bigint := p_after;      -- up to where the places below can be all that there are
  places    bigint[] := '{}';       -- of events that may be wanted
  more      bigint[];
  other     bigint[];
  segments  int := 0;
  hits      log.events[] := '{}';
begin
  select least(t.position, p_until) into until_at from tip t order by t.position desc limit 1;
  if p_limit < 1 or until_at <= looked then
    return query select looked, null::log.events;
    return;
  end if;
  select array_agg(regexp_replace(regexp_replace(t, '([\\_%])', '\\\1', 'g'), '\.\*$', '.%')) into types
    from unnest(p_types) t;
  if keys is not null then
    if coalesce(p_session, p_actor) is not null and p_types is not null then
      rivals := search_keys(null, p_types, null, null, null, null, null);
    end if;
    select greatest(looked, least(i.position, until_at)) into covered from indexed i order by i.position desc limit 1;
    while looked < covered and cardinality(places) < p_looks and segments < 256 loop
      more := indexed_places(keys, looked, covered, p_looks);
      if cardinality(more) = p_looks and rivals is not null then
        other := indexed_places(rivals, looked, covered, p_looks);
        if cardinality(other) < p_looks or other[p_looks] > more[p_looks] then
          more := other;  -- rarer here
        end if;
      end if;
      places := places || more;
      segments := segments + 1;
      looked := case when cardinality(more) = p_looks then more[p_looks]
                     else least(covered, ((((looked + 1) >> 20) + 1) << 20) - 1) end;
    end loop;
  elsif p_stream is not null then
    covered := until_at;
    places := array(select s.position from read_log_stream(p_stream, looked, p_looks, null) s);
    looked := case when cardinality(places) = p_looks then least(places[p_looks], until_at) else until_at end;
  end if;
  if cardinality(places) > 0 then
    hits := array(
      select e::log.events
        from unnest(places) with ordinality p(position, nr)
        cross join lateral (
          select * from events one
           where one.position = p.position and one.position between places[1] and looked
          offset 0) e  -- one look each
       where is_wanted(e, p_stream, types, p_session, p_actor, p_trace, p_correlation, p_causation)
       order by p.nr limit p_limit);
  end if;
  if cardinality(hits) = p_limit then
    looked := (hits[p_limit]).position;
  elsif looked = covered and looked < until_at then
    until_at := least(until_at, looked + p_scan);
    hits := hits || array(
      select e from events e
       where e.position > looked and e.position <= until_at
         and is_wanted(e, p_stream, types, p_session, p_actor, p_trace, p_correlation, p_causation)
       order by e.position limit p_limit - cardinality(hits));
    looked := case when cardinality(hits) = p_limit then (hits[p_limit]).position else until_at end;
  end if;
  return query select looked, hits[n] from generate_series(1, greatest(cardinality(hits), 1)) n;
end $$;
