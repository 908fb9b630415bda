-- For a worker with idle executors. If nothing is ready, late claims of others go back to ready,
-- uncharged, as if their executors had released them. Returns how many tasks there are to claim: ready ones,
-- and slow ones that an executor of this worker may run a second time.
-- Crash points: the caller may die after this: the tasks are ready, and any worker that looks finds them. An
-- executor that starts a stolen task after all (it was stopped) runs it in vain: its commit is FENCED.
-- Invariants at stake: I1 I2 I6 I11 (ARCHITECTURE.md).
-- FLAGS: allow-oom
-- INCLUDE: _outage _task_times _slow_tasks
-- KEYS: meta ready processing lease attempts
-- ARGV: now_ms worker
-- RETURNS: {"OK"|"GONE", state, stolen, ready, slow}
local state, lease_ms, expire_at, seen_at =
  unpack(redis.call('HMGET', meta, 'state', 'lease_ms', 'expire_at', 'supervisor_seen_at'))
if not state then return { 'GONE', '', 0, 0, 0 } end
if not RUNNING[state] then return { 'OK', state, 0, 0, 0 } end
local now = server_ms()
local waiting = redis.call('LLEN', ready)
if waiting > 0 or rearm_after_outage(now, tonumber(lease_ms), seen_at) then return { 'OK', state, 0, waiting, 0 } end
local stolen, claims = 0, single_attempts(now)
for i = #claims, 1, -1 do
  local id, attempt, age_ms = claims[i].id, claims[i].attempt, claims[i].age_ms
  if attempt.started == '0' and age_ms >= LATE_CLAIM_MS then
    redis.call('HDEL', attempts, id)
    redis.call('ZREM', lease, id)
    redis.call('LREM', processing, 1, id)
    redis.call('LPUSH', ready, id)
    stolen = stolen + 1
  end
end
if stolen > 0 then
  set_deadline(expire_at, ready)
  return { 'OK', state, stolen, stolen, 0 }
end
local _, _, slow = pick_slow_task(worker .. ':', now)
return { 'OK', state, 0, 0, slow }
