-- Where a job is, of one moment: for waiters, progress rows and listings. With `outcome` 1, of a job that
-- has succeeded, also what is read of it next.
-- FLAGS: allow-oom no-writes
-- KEYS: meta end_ lease done result
-- ARGV: now_ms outcome
-- RETURNS: {"OK"|"GONE", now, maps done, reduces done, leased, {end, {(partition, record)...}}|{}, {(field, value)...}}
local m = redis.call('HGETALL', meta)
if #m == 0 then return { 'GONE', clock() } end
local found = {}
if outcome == '1' and redis.call('HGET', meta, 'state') == 'succeeded' then
  found = { redis.call('GET', end_), redis.call('HGETALL', result) }
end
return { 'OK', clock(), redis.call('HLEN', done), redis.call('HLEN', result), redis.call('ZCARD', lease), found, m }
