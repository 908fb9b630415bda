-- Where a job is, of one moment: for waiters, progress rows and listings.
-- FLAGS: allow-oom
-- KEYS: meta lease done result
-- ARGV: now_ms
-- RETURNS: {"OK"|"GONE", now, maps done, reduces done, leased, (field, value)... of meta}
local m = redis.call('HGETALL', meta)
if #m == 0 then return { 'GONE', clock() } end
return { 'OK', clock(), redis.call('HLEN', done), redis.call('HLEN', result), redis.call('ZCARD', lease), m }
