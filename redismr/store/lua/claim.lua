-- Grants an executor up to `want` maps or `want_reduces` reduces, each leased to it alone until lease_ms
-- from now on the server's clock. A repeat with the same nonce grants the same tasks: a lost reply loses
-- none. With `backup` 1 and nothing ready, the grant may be one task that another executor has been
-- running for too long: a second attempt beside the first. Both renew the one lease of the task, and the
-- first commit clears both tokens.
-- Crash points: an attempt that dies is failed by its supervisor, and the task goes on in the other. If its
-- supervisor died too, its token stays as long as the other is renewed: it keeps a third attempt away, and
-- can do nothing else. If both are silent the lease runs out: one charge.
-- `include_spec` 1: see round_trips.py. A script that copies 10 MB holds the server for 40 ms, a GET for 6.
-- Invariants at stake: I2 I6 I12 (ARCHITECTURE.md).
-- FLAGS: allow-oom
-- INCLUDE: _grant_tasks _small_job _task_times _slow_tasks
-- KEYS: meta spec code params ready processing lease attempts done last_claims budgets
-- ARGV: now_ms executor nonce want want_reduces backup include_spec
-- RETURNS: {"OK"|"GONE", state, basis, now, {spec, code, params}|{spec}|{}, id..., ready_untouched}; ready_untouched: tasks left to claim if this was the job's first claim, else 0
local state, basis, expire_at = unpack(redis.call('HMGET', meta, 'state', 'basis', 'expire_at'))
if not state then return { 'GONE', '', '', 0, {}, 0 } end
local now = server_ms()
local sealed = {}
if include_spec == '1' then -- before anything is written: an altered key ends the script here
  sealed = { redis.call('GET', spec) }
  if redis.call('STRLEN', code) + redis.call('STRLEN', params) <= SENT_WITH_CLAIM_BYTES then
    sealed = { sealed[1], redis.call('GET', code), redis.call('GET', params) }
  end
end
local pick_backup = backup == '1' and function() return pick_slow_task(executor, now) end or nil
-- All that is wanted: a claim asks for few tasks (Store.claim).
local want_now = state == 'reducing' and reduces_to_grant(want_reduces, is_small_job()) or tonumber(want)
local ids = grant(executor, nonce, want_now, want_now, state, now, expire_at, pick_backup)
local reply = { 'OK', state, basis or '', now, #ids > 0 and sealed or {} }
for _, id in ipairs(ids) do reply[#reply + 1] = id end
local is_first_claim = #ids > 0 and redis.call('LLEN', processing) == #ids and redis.call('HLEN', done) == 0
reply[#reply + 1] = is_first_claim and redis.call('LLEN', ready) or 0
return reply
