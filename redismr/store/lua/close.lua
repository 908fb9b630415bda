-- The input is complete: n_map is sealed and set once, and the stage moves on if all maps are done
-- already. A repeat changes nothing. SHORT: there are fewer inputs than n (a failover took some back).
-- FLAGS: allow-oom
-- INCLUDE: _advance
-- KEYS: meta end_ ready processing lease attempts done result
-- ARGV: now_ms n nonce end_blob
-- RETURNS: {"OK"|"SHORT"|"ENDED"|"GONE", state, added, opened}
local state, added, expire_at = unpack(redis.call('HMGET', meta, 'state', 'maps_added', 'expire_at'))
if not state then return { 'GONE', '', 0, 0 } end
added = tonumber(added)
if state ~= 'submitting' then return { RUNNING[state] and 'OK' or 'ENDED', state, added, 0 } end
if added < tonumber(n) then return { 'SHORT', state, added, 0 } end
redis.call('SET', end_, end_blob)
redis.call('HSET', meta, 'state', 'mapping', 'n_map', n)
local opened
state, opened = advance(nonce, server_ms(), expire_at)
set_deadline(expire_at, end_)
return { 'OK', state, added, opened }
