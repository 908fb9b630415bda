-- Finds the oldest claims that take too long, for executors that have nothing else to do. Times are the
-- server's. An attempt is slow if it has run for SLOW_TASK_MS and for SLOW_TASK_MEDIANS medians of its
-- stage. A claim is late if it was not started within LATE_CLAIM_MS: renewals mark each second which tasks
-- have started.

-- The claims with one attempt, oldest first; none if the job wants no backups.
local function single_attempts(now)
  local list = {}
  if redis.call('HGET', meta, 'backup') ~= '1' then return list end
  for _, id in ipairs(redis.call('LRANGE', processing, 0, MAX_CLAIMS_CHECKED - 1)) do
    local live = load_attempts(attempts, id)
    if #live == 1 then
      local attempt = live[1]
      list[#list + 1] = { id = id, live = live, attempt = attempt, age_ms = now - (tonumber(attempt.since) or now) }
    end
  end
  return list
end

-- Returns the slowest task that this executor may run a second time, its live attempts, and how many such
-- tasks there are.
local function pick_slow_task(executor, now)
  local worker, slow, longest_ms, count = worker_of(executor), nil, -1, 0
  local claims = single_attempts(now)
  if #claims == 0 then return nil, nil, 0 end
  local limit = math.max(SLOW_TASK_MS, SLOW_TASK_MEDIANS * median_time(stage_of(claims[1].id)))
  for _, claim in ipairs(claims) do
    local attempt, age_ms = claim.attempt, claim.age_ms
    if worker_of(attempt.executor) == worker then age_ms = age_ms - SAME_WORKER_DELAY_MS end
    if attempt.started == '1' and attempt.executor ~= executor and age_ms >= limit then
      count = count + 1
      if age_ms > longest_ms then slow, longest_ms = claim, age_ms end
    end
  end
  return slow and slow.id, slow and slow.live, count
end
