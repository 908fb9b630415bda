-- Finds the oldest claims that take too long, for executors that have nothing else to do. Times are the
-- server's. An attempt is slow if it has run for SLOW_TASK_MS and for twice the median of its stage. A
-- claim is late if it was not started within LATE_CLAIM_MS: a batch is meant to take 50 ms, its executor
-- starts no task of it after 500, and renewals mark each second which tasks have started.

-- The claims with one attempt, oldest first; none if the job wants no backups.
local function single_attempts(now)
  local list = {}
  if redis.call('HGET', meta, 'backup') ~= '1' then return list end
  for _, id in ipairs(redis.call('LRANGE', processing, 0, MAX_CLAIMS_CHECKED - 1)) do
    local holders = load_holders(attempts, id)
    if #holders == 1 then
      local holder = holders[1]
      list[#list + 1] = { id = id, holders = holders, holder = holder, age_ms = now - (tonumber(holder.since) or now) }
    end
  end
  return list
end

-- Returns the task that this executor may run beside its holder, its holders, and how many such tasks
-- there are.
local function pick_slow_task(executor, now)
  local worker, slow, longest_ms, count = worker_of(executor), nil, -1, 0
  local claims = single_attempts(now)
  if #claims == 0 then return nil, nil, 0 end
  local limit = math.max(SLOW_TASK_MS, SLOW_TASK_MEDIANS * median_time(string.sub(claims[1].id, 1, 1)))
  for _, claim in ipairs(claims) do
    local holder, age_ms = claim.holder, claim.age_ms
    if string.match(holder.executor, '^(.*):') == worker then age_ms = age_ms - SAME_WORKER_DELAY_MS end
    if holder.started == '1' and holder.executor ~= executor and age_ms >= limit then
      count = count + 1
      if age_ms > longest_ms then slow, longest_ms = claim, age_ms end
    end
  end
  if not slow then return nil, nil, 0 end
  return slow.id, slow.holders, count
end
