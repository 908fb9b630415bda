-- The input is complete: n_map is sealed and set once, and the stage moves on if all maps are done
-- already. Repeating it changes nothing. With fewer inputs than n (a failover took some back): SHORT.
-- FLAGS: allow-oom
-- INCLUDE: _advance
-- KEYS: meta end_ ready processing lease attempts done result
-- ARGV: now_ms n nonce end_blob
-- RETURNS: {"OK"|"SHORT"|"ENDED"|"GONE", state, added, opened}
local state = redis.call('HGET', meta, 'state')
if not state then return { 'GONE', '', 0, 0 } end
local added = tonumber(redis.call('HGET', meta, 'added'))
if state ~= 'submitting' then
  return { RUNNING[state] and 'OK' or 'ENDED', state, added, 0 }
end
if added < tonumber(n) then return { 'SHORT', state, added, 0 } end
local now = server_ms()
local expire_at = redis.call('HGET', meta, 'expire_at')
redis.call('SET', end_, end_blob)
redis.call('HSET', meta, 'state', 'mapping', 'n_map', n)
local opened
state, opened = advance(nonce, now, expire_at)
set_deadline(expire_at, end_)
return { 'OK', state, added, opened }
