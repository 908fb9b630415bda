-- A running job's deadline is ttl_ms from now again, for every control key at once: its ttl does not cut
-- off a job that works. The caller extends the bulk keys, in their own slots, after this.
-- Crash point: a caller that dies in between leaves bulk keys at the deadline before this one. It
-- passes only after the next call, which is due when less than EXTEND_BELOW_TTL of the ttl is left.
-- FLAGS: allow-oom
-- KEYS: meta spec end_ code params ready processing lease attempts done result out last_claims failures budgets
-- ARGV: now_ms
-- RETURNS: {"OK"|"ENDED"|"GONE", expire_at, added, partitions}
local state, ttl, added, partitions = unpack(redis.call('HMGET', meta, 'state', 'ttl_ms', 'maps_added', 'partitions'))
if not state then return { 'GONE', 0, 0, 0 } end
if not RUNNING[state] then return { 'ENDED', 0, 0, 0 } end
ttl, added, partitions = tonumber(ttl), tonumber(added), tonumber(partitions)
-- Clear text: an altered number must stop neither the server nor the caller, who acts on these numbers.
if not (ttl and ttl > 0 and ttl <= MAX_TTL_MS and added and added >= 0 and added <= MAX_MAPS
    and partitions and partitions >= 0 and partitions <= MAX_PARTITIONS) then
  error('ttl_ms, maps_added or partitions is none that a job can have')
end
local expire_at = string.format('%d', server_ms() + ttl)
redis.call('HSET', meta, 'expire_at', expire_at)
set_deadline(expire_at, meta, spec, end_, code, params, ready, processing, lease, attempts, done, result, out, last_claims, failures, budgets)
return { 'OK', expire_at, added, partitions }
