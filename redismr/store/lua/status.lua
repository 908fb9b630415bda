-- Where a job is, of one moment: for waiters, progress rows and listings. With `with_results` 1, of a job that
-- has succeeded, also what is read of it next. `busy` executors are at it: for so many ms since their
-- claims in all, and the last of them; -1 where there are too many to look at each.
-- FLAGS: allow-oom no-writes
-- KEYS: meta end_ lease attempts done result
-- ARGV: now_ms with_results
-- RETURNS: {"OK"|"GONE", now, maps done, reduces done, leased, busy, total_ms, least ms, {end, {(partition, record)...}}|{}, {(field, value)...}}
local MAX_LEASES_READ = 1000

local function executors_at_work(leased, now)
  if leased > MAX_LEASES_READ then return -1, 0, 0 end
  local since, busy, total_ms, last_ms = {}, 0, 0, nil
  local held = leased > 0 and redis.call('HGETALL', attempts) or {}
  for i = 2, #held, 2 do
    for _, holder in ipairs(parse_holders(held[i])) do
      local at = tonumber(holder[4]) or now
      if holder[3] == '1' then since[holder[2]] = math.min(since[holder[2]] or at, at) end
    end
  end
  for _, at in pairs(since) do
    local age = math.max(0, now - at)
    busy, total_ms, last_ms = busy + 1, total_ms + age, math.min(last_ms or age, age)
  end
  return busy, total_ms, last_ms or 0
end

local m = redis.call('HGETALL', meta)
if #m == 0 then return { 'GONE', server_ms() } end
local results = {}
if with_results == '1' and redis.call('HGET', meta, 'state') == 'succeeded' then
  results = { redis.call('GET', end_), redis.call('HGETALL', result) }
end
local now, leased = server_ms(), redis.call('ZCARD', lease)
local busy, total_ms, last_ms = executors_at_work(leased, now)
return { 'OK', now, redis.call('HLEN', done), redis.call('HLEN', result), leased, busy, total_ms, last_ms, results, m }
