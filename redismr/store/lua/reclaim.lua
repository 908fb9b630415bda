-- Takes back leases that ran out, at most `limit` at a time: O(log n) each to find, and a walk along
-- `processing`, a list as long as what executors hold now (6,400 held: 30 us each). No lock, any number
-- of callers. Only a task that had started is charged a lost lease. If nobody at all was heard of for
-- OUTAGE_PART_OF_LEASE of a lease (Redis or every worker was down), leases are re-armed and nobody is charged.
-- A job whose submitter fell silent before close fails: nobody else can complete its input.
-- A job with one map task for each worker (meta.each_worker) is closed when all of them are done. A map
-- task that is to run after that means that results were lost (a failover, or altered segments): only its
-- worker may run it, and that may be gone, so the job fails.
-- FLAGS: allow-oom
-- INCLUDE: _end_failed _outage
-- KEYS: meta ready processing lease attempts failures budgets
-- ARGV: now_ms limit
-- RETURNS: {"OK"|"GONE", state, reclaimed, ended_at, claimable, lease_ms}
local state, lease_ms, expire_at, seen_at, lost_leases, ended_at, each_worker = unpack(redis.call('HMGET', meta,
  'state', 'lease_ms', 'expire_at', 'supervisor_seen_at', 'lost_leases', 'ended_at', 'each_worker'))
if not state then return { 'GONE', '', 0, 0, 0, 0 } end
lease_ms = tonumber(lease_ms)
if not RUNNING[state] then return { 'OK', state, 0, tonumber(ended_at) or 0, 0, lease_ms or 0 } end
local now = server_ms()
local function end_job(cause, reclaimed)
  end_failed(cause, now)
  return { 'OK', 'failed', reclaimed, now, 0, lease_ms }
end

rearm_after_outage(now, lease_ms, seen_at)
-- No lease of ours ends later than this: a later one was put there, and would never run out.
local latest_expiry = now + lease_ms + LEASE_MARGIN_MS
for _, id in ipairs(redis.call('ZRANGE', lease, string.format('(%d', latest_expiry), '+inf', 'BYSCORE', 'LIMIT', 0, limit)) do
  redis.call('ZADD', lease, 'XX', latest_expiry, id)
end
if state == 'submitting' and now > tonumber(redis.call('HGET', meta, 'submit_until')) then
  return end_job('SubmitterLost', 0)
end
if state == 'mapping' and each_worker == '1' then
  return end_job('what a worker did for it was lost or altered in Redis, and no other may do it', 0)
end
local reclaimed = 0
for _, id in ipairs(redis.call('ZRANGE', lease, '-inf', now, 'BYSCORE', 'LIMIT', 0, limit)) do
  local started_by = false -- the executor that started the task and fell silent
  for _, attempt in ipairs(load_attempts(attempts, id)) do started_by = attempt.started == '1' and attempt.executor or started_by end
  redis.call('ZREM', lease, id)
  redis.call('HDEL', attempts, id)
  redis.call('LREM', processing, 1, id)
  reclaimed = reclaimed + 1
  if not started_by then -- it waited in a batch: uncharged, and next in turn
    redis.call('LPUSH', ready, id)
  elseif redis.call('HINCRBY', budgets, 'lost:' .. id, 1) <= tonumber(lost_leases) then -- charged, and tried again
    redis.call('RPUSH', ready, id)
    redis.pcall('HINCRBY', meta, 'retried', 1)
  else
    redis.call('HSET', failures, id, '') -- the budget is used up: the task is dead
    set_deadline(expire_at, failures, budgets)
    local times = string.format('%d times, at last executor ', lost_leases + 1)
    local advice = ': see the log of that worker; lost_leases allows more'
    return end_job('the process that ran task ' .. id .. ' died or was cut off ' .. times .. started_by .. advice, reclaimed)
  end
end
set_deadline(expire_at, ready, budgets)
local claimable = redis.call('LLEN', ready)
if state ~= 'submitting' and claimable == 0 and redis.call('ZCARD', lease) == 0 then
  -- Every task that is not done is ready or leased: without either, nothing here can ever move again.
  return end_job('its tasks vanished from Redis, or their number was altered there', reclaimed)
end
return { 'OK', state, reclaimed, 0, claimable, lease_ms }
