-- Where a job is, of one moment: for waiters, progress rows and listings. With `outcome` 1, of a job that
-- has succeeded, also what is read of it next. `busy` executors are at it: for so many ms since their
-- claims in all, and the last of them; -1 where there are too many to look at each.
-- FLAGS: allow-oom no-writes
-- KEYS: meta end_ lease own done result
-- ARGV: now_ms outcome
-- RETURNS: {"OK"|"GONE", now, maps done, reduces done, leased, busy, ms, least ms, {end, {(partition, record)...}}|{}, {(field, value)...}}
local MANY = 1000

local function at_work(leased, now)
  if leased > MANY then return -1, 0, 0 end
  local since, busy, ms, least = {}, 0, 0, nil
  local held = leased > 0 and redis.call('HGETALL', own) or {}
  for i = 2, #held, 2 do
    for _, holder in ipairs(holders_in(held[i])) do
      local at = tonumber(holder[4]) or now
      if holder[3] == '1' then since[holder[2]] = math.min(since[holder[2]] or at, at) end
    end
  end
  for _, at in pairs(since) do
    local age = math.max(0, now - at)
    busy, ms, least = busy + 1, ms + age, math.min(least or age, age)
  end
  return busy, ms, least or 0
end

local m = redis.call('HGETALL', meta)
if #m == 0 then return { 'GONE', clock() } end
local found = {}
if outcome == '1' and redis.call('HGET', meta, 'state') == 'succeeded' then
  found = { redis.call('GET', end_), redis.call('HGETALL', result) }
end
local now, leased = clock(), redis.call('ZCARD', lease)
local busy, ms, least = at_work(leased, now)
return { 'OK', now, redis.call('HLEN', done), redis.call('HLEN', result), leased, busy, ms, least, found, m }
