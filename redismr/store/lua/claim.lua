-- Gives an executor up to `want` tasks, each leased to it alone until lease_ms from now on the
-- server's clock. A repeat with the same nonce gives the same tasks: a lost reply loses none.
-- FLAGS: allow-oom
-- INCLUDE: _grant
-- KEYS: meta ready processing lease own claims tries
-- ARGV: now_ms executor nonce want
-- RETURNS: {"OK"|"GONE", state, basis, now, id...}
local m = redis.call('HMGET', meta, 'state', 'basis', 'expire_at')
if not m[1] then return { 'GONE', '', '', 0 } end
local now = clock()
local reply = { 'OK', m[1], m[2] or '', now }
for _, id in ipairs(grant(executor, nonce, want, m[1], now, m[3])) do reply[#reply + 1] = id end
return reply
