-- Gives an executor up to `want` maps or `reducers`, each leased to it alone until lease_ms from now on
-- the server's clock. A repeat with the same nonce gives the same tasks: a lost reply loses none.
-- With `backup` 1, and nothing ready, it may be one task that another executor has been running for
-- too long: a second attempt beside the first. Both renew the one lease of the task; the first commit
-- clears both tokens. Crash points: an attempt that dies is failed by its supervisor, and the task goes
-- on in the other. If its supervisor died too, its token stays as long as the other is renewed: it
-- keeps a third attempt away, and can do nothing else. If both are silent the lease runs out: one charge.
-- With `opening` 1, who gets tasks gets the sealed spec in the same answer, and code and params if they
-- are small: one round trip less before the first task. A script that copies 10 MB holds the server for
-- 40 ms, where a GET takes 6.
-- Invariants at stake: I2 I6 I12 (ARCHITECTURE.md).
-- FLAGS: allow-oom
-- INCLUDE: _grant _small _pace _slow
-- KEYS: meta spec code params ready processing lease own done claims tries
-- ARGV: now_ms executor nonce want reducers backup opening
-- RETURNS: {"OK"|"GONE", state, basis, now, {spec, code, params}|{spec}|{}, id..., untouched}; so many are ready of which no other was ever claimed
local SMALL = 65536
local m = redis.call('HMGET', meta, 'state', 'basis', 'expire_at')
if not m[1] then return { 'GONE', '', '', 0, {}, 0 } end
local now = clock()
local sealed = {}
if opening == '1' then -- before anything is written: a key that was altered ends the script here
  sealed = { redis.call('GET', spec) }
  if redis.call('STRLEN', code) + redis.call('STRLEN', params) <= SMALL then
    sealed = { sealed[1], redis.call('GET', code), redis.call('GET', params) }
  end
end
local second = backup == '1' and function() return slowest(executor, now) end or nil
-- All of it, since who claims asks for few (Store.claim).
local most = m[1] == 'reducing' and together(reducers, is_small()) or tonumber(want)
local ids = grant(executor, nonce, most, most, m[1], now, m[3], second)
local reply = { 'OK', m[1], m[2] or '', now, #ids > 0 and sealed or {} }
for _, id in ipairs(ids) do reply[#reply + 1] = id end
local first = #ids > 0 and redis.call('LLEN', processing) == #ids and redis.call('HLEN', done) == 0
reply[#reply + 1] = first and redis.call('LLEN', ready) or 0
return reply
