-- The map task that only this executor's worker may run; nil if it is not ready.
local function take_assigned(executor)
  local id = redis.call('HGET', meta, 'assigned:' .. worker_of(executor))
  if not id or redis.call('LREM', ready, 1, id) == 0 then return nil end
  redis.call('RPUSH', processing, id)
  return id
end

-- Takes up to `want` ready tasks. A task that once cost its process runs alone: it must not take a batch
-- of other tasks with it.
local function take_singly(executor, want, is_assigned, has_suspects)
  local ids = {}
  while #ids < want do
    local id
    if is_assigned then id = take_assigned(executor) else id = redis.call('LINDEX', ready, 0) end
    if not id then break end
    local is_suspect = has_suspects and redis.call('HEXISTS', budgets, 'lost:' .. id) == 1
    if is_suspect and #ids > 0 then break end
    if not is_assigned then redis.call('LMOVE', ready, processing, 'LEFT', 'RIGHT') end
    ids[#ids + 1] = id
    if is_suspect then break end
  end
  return ids
end

-- Grants up to `want` ready tasks to an executor, under tokens made of the task and the nonce. The answer
-- is remembered: the same nonce gets the same tasks again, as far as it still holds them (a lost reply).
-- At most MAX_SHARE_OF_READY is granted at once, so that the tail of a stage is shared; or `min_count`, if
-- that is less work than a round trip is worth. With nothing ready, `pick_backup` (if given) returns a task
-- that may run twice, and its live attempts. With meta.each_worker, a map task belongs to one worker.
local function grant(executor, nonce, want, min_count, state, now, expire_at, pick_backup)
  local ids = {}
  if nonce == '' then return ids end
  local last_nonce, last_ids = string.match(redis.call('HGET', last_claims, executor) or '', '^(%S+) (.*)$')
  if last_nonce == nonce then
    for id in string.gmatch(last_ids, '[^,]+') do
      if find_attempt(load_attempts(attempts, id), id .. '.' .. nonce) then ids[#ids + 1] = id end
    end
    return ids
  end
  if not RUNNING[state] then return ids end
  want = tonumber(want)
  want = math.min(want, math.max(1, min_count, math.floor(redis.call('LLEN', ready) * MAX_SHARE_OF_READY)))
  local lease_ms, each_worker = unpack(redis.call('HMGET', meta, 'lease_ms', 'each_worker'))
  local lease_until, is_assigned = now + tonumber(lease_ms), each_worker == '1' and state ~= 'reducing'
  local has_suspects = redis.call('EXISTS', budgets) == 1
  if is_assigned or has_suspects then
    ids = take_singly(executor, want, is_assigned, has_suspects)
  elseif want > 0 then
    ids = redis.call('LRANGE', ready, 0, math.min(want, MAX_ARGUMENTS) - 1)
    if #ids > 0 then -- first the call that is refused if a key was altered
      redis.call('RPUSH', processing, unpack(ids))
      redis.call('LTRIM', ready, #ids, -1)
    end
  end
  if #ids > 0 then
    local lease_fields, attempt_fields = {}, {}
    for i, id in ipairs(ids) do
      lease_fields[2 * i - 1], lease_fields[2 * i] = lease_until, id
      attempt_fields[2 * i - 1] = id
      attempt_fields[2 * i] = id .. '.' .. nonce .. ' ' .. executor .. (i == 1 and ' 1 ' or ' 0 ') .. now
    end
    redis.call('ZADD', lease, unpack(lease_fields))
    redis.call('HSET', attempts, unpack(attempt_fields))
  end
  if pick_backup and #ids == 0 and want > 0 then
    local id, live = pick_backup()
    if id then
      live[#live + 1] = { token = id .. '.' .. nonce, executor = executor, started = '1', since = now }
      save_attempts(attempts, id, live)
      redis.call('ZADD', lease, lease_until, id)
      redis.call('LREM', processing, 1, id) -- to the end: the oldest claims are looked at for slow ones
      redis.call('RPUSH', processing, id)
      ids[1] = id
    end
  end
  redis.call('HSET', last_claims, executor, nonce .. ' ' .. table.concat(ids, ','))
  set_deadline(expire_at, processing, lease, attempts, last_claims)
  return ids
end
