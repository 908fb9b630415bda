-- For a worker with idle executors. If nothing is ready, claims of others that are late go back to
-- ready, uncharged, as if their holders had released them; then says how many tasks there are to claim:
-- ready ones, and slow ones that an executor of this worker may run a second time.
-- Crash points: its caller may die after it: the tasks are ready, whoever looks next finds them. A
-- holder that comes to a stolen task after all (it was stopped) runs it in vain: its commit is FENCED.
-- Invariants at stake: I1 I2 I6 I11 (ARCHITECTURE.md).
-- FLAGS: allow-oom
-- INCLUDE: _outage _task_times _slow_tasks
-- KEYS: meta ready processing lease attempts
-- ARGV: now_ms worker
-- RETURNS: {"OK"|"GONE", state, stolen, ready, slow}
local m = redis.call('HMGET', meta, 'state', 'lease_ms', 'expire_at', 'supervisor_seen_at')
local state = m[1]
if not state then return { 'GONE', '', 0, 0, 0 } end
if not RUNNING[state] then return { 'OK', state, 0, 0, 0 } end
local now = server_ms()
local waiting = redis.call('LLEN', ready)
if waiting > 0 or rearm_after_outage(now, tonumber(m[2]), m[4]) then return { 'OK', state, 0, waiting, 0 } end
local stolen, list = 0, single_attempts(now)
for i = #list, 1, -1 do
  local id, holder, age = list[i][1], list[i][2][1], list[i][3]
  if holder[3] == '0' and age >= LATE_CLAIM_MS then
    redis.call('HDEL', attempts, id)
    redis.call('ZREM', lease, id)
    redis.call('LREM', processing, 1, id)
    redis.call('LPUSH', ready, id)
    stolen = stolen + 1
  end
end
if stolen > 0 then
  set_deadline(m[3], ready)
  return { 'OK', state, stolen, stolen, 0 }
end
local _, _, slow = pick_slow_task(worker .. ':', now)
return { 'OK', state, 0, 0, slow }
