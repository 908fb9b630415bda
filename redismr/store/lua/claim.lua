-- Gives an executor up to `want` tasks, each leased to it alone until lease_ms from now on the
-- server's clock. A repeat with the same nonce gives the same tasks: a lost reply loses none.
-- With `backup` 1, and nothing ready, it may be one task that another executor has been running for
-- too long: a second attempt beside the first. Both renew the one lease of the task; the first commit
-- clears both tokens. Crash points: an attempt that dies is failed by its supervisor, and the task goes
-- on in the other. If its supervisor died too, its token stays as long as the other is renewed: it
-- keeps a third attempt away, and can do nothing else. If both are silent the lease runs out: one charge.
-- Invariants at stake: I2 I6 I12 (ARCHITECTURE.md).
-- FLAGS: allow-oom
-- INCLUDE: _grant _pace _slow
-- KEYS: meta ready processing lease own claims tries
-- ARGV: now_ms executor nonce want backup
-- RETURNS: {"OK"|"GONE", state, basis, now, id...}
local m = redis.call('HMGET', meta, 'state', 'basis', 'expire_at')
if not m[1] then return { 'GONE', '', '', 0 } end
local now = clock()
local reply = { 'OK', m[1], m[2] or '', now }
local second = backup == '1' and function() return slowest(executor, now) end or nil
-- How long its reducers take, nobody knows before one is done.
local most = m[1] == 'reducing' and math.min(1, tonumber(want)) or want
for _, id in ipairs(grant(executor, nonce, most, m[1], now, m[3], second)) do reply[#reply + 1] = id end
return reply
