-- Returns where a job is, all of one moment: for waiters, progress rows and listings. With `with_results`
-- 1, also returns what is read next of a job that has succeeded. `busy` is the number of executors
-- that run its tasks (-1: too many leases to read), total_ms the sum of the times since their claims,
-- least_ms the time since the latest claim.
-- FLAGS: allow-oom no-writes
-- KEYS: meta end_ lease attempts done result
-- ARGV: now_ms with_results
-- RETURNS: {"OK"|"GONE", now, maps done, reduces done, leased, busy, total_ms, least_ms, {end, {(partition, record)...}}|{}, {(field, value)...}}
local function executors_at_work(leased, now)
  if leased > MAX_LEASES_READ then return -1, 0, 0 end
  local since, busy, total_ms, least_ms = {}, 0, 0, nil
  local held = leased > 0 and redis.call('HGETALL', attempts) or {}
  for i = 2, #held, 2 do
    for _, attempt in ipairs(parse_attempts(held[i])) do
      local at = tonumber(attempt.since) or now
      if attempt.started == '1' then since[attempt.executor] = math.min(since[attempt.executor] or at, at) end
    end
  end
  for _, at in pairs(since) do
    local age_ms = math.max(0, now - at)
    busy, total_ms, least_ms = busy + 1, total_ms + age_ms, math.min(least_ms or age_ms, age_ms)
  end
  return busy, total_ms, least_ms or 0
end

local fields = redis.call('HGETALL', meta)
if #fields == 0 then return { 'GONE', server_ms() } end
local results = {}
if with_results == '1' and redis.call('HGET', meta, 'state') == 'succeeded' then
  results = { redis.call('GET', end_), redis.call('HGETALL', result) }
end
local now, leased = server_ms(), redis.call('ZCARD', lease)
local busy, total_ms, least_ms = executors_at_work(leased, now)
return { 'OK', now, redis.call('HLEN', done), redis.call('HLEN', result), leased, busy, total_ms, least_ms, results, fields }
