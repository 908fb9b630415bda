-- A running job's deadline is ttl_ms from now again, for every control key at once: a job that
-- works is not cut off by its ttl. The caller extends the bulk keys, in their own slots, after it.
-- Crash point: a caller that dies in between leaves bulk keys at the deadline before this one, which
-- is at least half a ttl away; the next call, a quarter of a ttl later, extends them all.
-- FLAGS: allow-oom
-- KEYS: meta spec end_ code params ready processing lease attempts done result out last_claims failures budgets
-- ARGV: now_ms
-- RETURNS: {"OK"|"ENDED"|"GONE", expire_at, added, partitions}
local m = redis.call('HMGET', meta, 'state', 'ttl_ms', 'added', 'partitions')
if not m[1] then return { 'GONE', 0, 0, 0 } end
if not RUNNING[m[1]] then return { 'ENDED', 0, 0, 0 } end
local ttl, added, partitions = tonumber(m[2]), tonumber(m[3]), tonumber(m[4])
-- Clear text: what no job has must stop neither the server nor the caller, who acts on these numbers.
if not (ttl and ttl > 0 and ttl <= 400 * 86400000 and added and added >= 0 and added <= 1e9
    and partitions and partitions >= 0 and partitions <= 4096) then
  error('ttl_ms, added or partitions is none that a job can have')
end
local expire_at = string.format('%d', server_ms() + ttl)
redis.call('HSET', meta, 'expire_at', expire_at)
set_deadline(expire_at, meta, spec, end_, code, params, ready, processing, lease, attempts, done, result, out, last_claims, failures, budgets)
return { 'OK', expire_at, added, partitions }
