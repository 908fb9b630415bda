-- Takes back leases that ran out, at most `limit` at a time: O(log n) each to find, and a walk along
-- `processing`, a list as long as what executors hold now (6,400 held: 30 us each). No lock, any number
-- of callers. Only a task that had started is charged a lost lease. If nobody at all was heard of for
-- half a lease (Redis was down, or every worker was), leases are re-armed and nobody is charged.
-- A job whose submitter fell silent before close fails: nobody else can complete its input.
-- One with a map task for each worker (meta.each_worker) is closed when all of them are done. If it has any to
-- do afterwards, results were lost (a failover, or altered segments): no other worker may run those, and
-- theirs may be gone, so it fails.
-- FLAGS: allow-oom
-- INCLUDE: _end_failed _outage
-- KEYS: meta ready processing lease attempts failures budgets
-- ARGV: now_ms limit
-- RETURNS: {"OK"|"GONE", state, reclaimed, ended_at, claimable, lease_ms}
local m = redis.call('HMGET', meta, 'state', 'lease_ms', 'expire_at', 'supervisor_seen_at', 'lost_leases', 'ended_at', 'each_worker')
local state = m[1]
if not state then return { 'GONE', '', 0, 0, 0, 0 } end
local now = server_ms()
if not RUNNING[state] then return { 'OK', state, 0, tonumber(m[6]) or 0, 0, tonumber(m[2]) or 0 } end
rearm_after_outage(now, tonumber(m[2]), m[4])
-- No lease of ours ends later than this: one that does was put there, and would never run out.
local latest_expiry = now + tonumber(m[2]) + 1000
for _, id in ipairs(redis.call('ZRANGE', lease, string.format('(%d', latest_expiry), '+inf', 'BYSCORE', 'LIMIT', 0, limit)) do
  redis.call('ZADD', lease, 'XX', latest_expiry, id)
end
if state == 'submitting' and now > tonumber(redis.call('HGET', meta, 'submit_until')) then
  end_failed('SubmitterLost', now)
  return { 'OK', 'failed', 0, now, 0, tonumber(m[2]) }
end
if state == 'mapping' and m[7] == '1' then
  end_failed('what a worker did for it was lost or altered in Redis, and no other may do it', now)
  return { 'OK', 'failed', 0, now, 0, tonumber(m[2]) }
end
local reclaimed = 0
for _, id in ipairs(redis.call('ZRANGE', lease, '-inf', now, 'BYSCORE', 'LIMIT', 0, limit)) do
  local started_by = false -- the executor that had, and fell silent
  for _, holder in ipairs(load_holders(attempts, id)) do started_by = holder[3] == '1' and holder[2] or started_by end
  redis.call('ZREM', lease, id)
  redis.call('HDEL', attempts, id)
  redis.call('LREM', processing, 1, id)
  reclaimed = reclaimed + 1
  if not started_by then
    redis.call('LPUSH', ready, id)
  elseif redis.call('HINCRBY', budgets, 'lost:' .. id, 1) <= tonumber(m[5]) then
    redis.call('RPUSH', ready, id)
    redis.pcall('HINCRBY', meta, 'retried', 1)
  else
    redis.call('HSET', failures, id, '')
    set_deadline(m[3], failures, budgets)
    local times = string.format('%d times, at last executor ', m[5] + 1)
    local advice = ': see the log of that worker; lost_leases allows more'
    end_failed('the process that ran task ' .. id .. ' died or was cut off ' .. times .. started_by .. advice, now)
    return { 'OK', 'failed', reclaimed, now, 0, tonumber(m[2]) }
  end
end
set_deadline(m[3], ready, budgets)
local claimable = redis.call('LLEN', ready)
if state ~= 'submitting' and claimable == 0 and redis.call('ZCARD', lease) == 0 then
  -- Every task that is not done is ready or leased. So nothing here can ever move again.
  end_failed('its tasks vanished from Redis, or their number was altered there', now)
  return { 'OK', 'failed', reclaimed, now, 0, tonumber(m[2]) }
end
return { 'OK', state, reclaimed, 0, claimable, tonumber(m[2]) }
