-- Which of the oldest claims take too long, for executors that have nothing else to do. Times are the
-- server's. An attempt is slow if it has run for 2 s and for twice the median of its stage; a claim is
-- late if it was not started within 2 s: a batch is meant to take 50 ms, its executor starts no task
-- of it after 500, and renewals mark what was started each second.
local SLOW_TASK_MS, LATE_CLAIM_MS, MAX_CLAIMS_CHECKED = 2000, 2000, 64

-- An executor of the same worker waits longer: idle ones of others look each second, and go first.
local SAME_WORKER_DELAY_MS = 1500

-- The claims with one attempt, oldest first: a list of {id, holders, ms since}. None if the job says so.
local function single_attempts(now)
  local list = {}
  if redis.call('HGET', meta, 'backup') ~= '1' then return list end
  for _, id in ipairs(redis.call('LRANGE', processing, 0, MAX_CLAIMS_CHECKED - 1)) do
    local holders = load_holders(attempts, id)
    if #holders == 1 then list[#list + 1] = { id, holders, now - (tonumber(holders[1][4]) or now) } end
  end
  return list
end

-- The task that this executor may run beside the one who holds it, with its holders; how many there are.
local function pick_slow_task(executor, now)
  local worker, slow, longest_ms, count = string.match(executor, '^(.*):') or executor, nil, -1, 0
  local candidates = single_attempts(now)
  if #candidates == 0 then return nil, nil, 0 end
  local limit = math.max(SLOW_TASK_MS, 2 * median_time(string.sub(candidates[1][1], 1, 1)))
  for _, claim in ipairs(candidates) do
    local holder, age = claim[2][1], claim[3]
    if string.match(holder[2], '^(.*):') == worker then age = age - SAME_WORKER_DELAY_MS end
    if holder[3] == '1' and holder[2] ~= executor and age >= limit then
      count = count + 1
      if age > longest_ms then slow, longest_ms = claim, age end
    end
  end
  if not slow then return nil, nil, 0 end
  return slow[1], slow[2], count
end
