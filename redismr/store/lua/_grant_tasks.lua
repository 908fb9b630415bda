-- The map task that a worker alone may run, of a job with one for each; moves it if it is ready.
local function take_assigned(executor)
  local id = redis.call('HGET', meta, 'assigned:' .. (string.match(executor, '^(.*):') or executor))
  if not id or redis.call('LREM', ready, 1, id) == 0 then return nil end
  redis.call('RPUSH', processing, id)
  return id
end

local MAX_ARGUMENTS = 1000 -- Lua hands over some thousand arguments; executors ask for 64

-- Hands up to `want` ready tasks to an executor, under tokens made of the task and its nonce. The
-- answer is remembered: the same nonce gets the same tasks, as far as it still owns them (a lost reply).
-- At most a quarter of what is ready goes at once, so that the tail of a stage is shared; or `min_count`,
-- of which the work is not worth a round trip. With nothing ready, `pick_backup` (if given) names a task that
-- may be held twice, with its holders. Of a job with one map task for each worker (meta.each_worker) an executor
-- gets none but its worker's.
local function grant(executor, nonce, want, min_count, state, now, expire_at, pick_backup)
  local ids = {}
  if nonce == '' then return ids end
  local last_claim = redis.call('HGET', last_claims, executor)
  local last_nonce, last_ids = string.match(last_claim or '', '^(%S+) (.*)$')
  if last_nonce == nonce then
    for id in string.gmatch(last_ids, '[^,]+') do
      for _, holder in ipairs(load_holders(attempts, id)) do
        if holder[1] == id .. '.' .. nonce then ids[#ids + 1] = id end
      end
    end
    return ids
  end
  if not RUNNING[state] then return ids end
  want = tonumber(want)
  want = math.min(want, math.max(1, min_count, math.floor(redis.call('LLEN', ready) / 4)))
  local m = redis.call('HMGET', meta, 'lease_ms', 'each_worker')
  local lease_until, each = now + tonumber(m[1]), m[2] == '1' and state ~= 'reducing'
  local has_suspects = redis.call('EXISTS', budgets) == 1
  if each or has_suspects then
    while #ids < want do
      local id
      if each then id = take_assigned(executor) else id = redis.call('LINDEX', ready, 0) end
      if not id then break end
      -- A task that once cost its process runs alone: it must not take a batch of others with it.
      local is_suspect = has_suspects and redis.call('HEXISTS', budgets, 'lost:' .. id) == 1
      if is_suspect and #ids > 0 then break end
      if not each then redis.call('LMOVE', ready, processing, 'LEFT', 'RIGHT') end
      ids[#ids + 1] = id
      if is_suspect then break end
    end
  elseif want > 0 then
    ids = redis.call('LRANGE', ready, 0, math.min(want, MAX_ARGUMENTS) - 1)
    if #ids > 0 then -- first what may be refused, for a key that was altered
      redis.call('RPUSH', processing, unpack(ids))
      redis.call('LTRIM', ready, #ids, -1)
    end
  end
  if #ids > 0 then
    local lease_fields, holder_fields = {}, {}
    for i, id in ipairs(ids) do
      lease_fields[2 * i - 1], lease_fields[2 * i] = lease_until, id
      holder_fields[2 * i - 1] = id
      holder_fields[2 * i] = id .. '.' .. nonce .. ' ' .. executor .. (i == 1 and ' 1 ' or ' 0 ') .. now
    end
    redis.call('ZADD', lease, unpack(lease_fields))
    redis.call('HSET', attempts, unpack(holder_fields))
  end
  if pick_backup and #ids == 0 and want > 0 then
    local id, holders = pick_backup()
    if id then
      holders[#holders + 1] = { id .. '.' .. nonce, executor, '1', now }
      save_holders(attempts, id, holders)
      redis.call('ZADD', lease, lease_until, id)
      -- To the end of the line: the oldest claims are looked at for those that are slow.
      redis.call('LREM', processing, 1, id)
      redis.call('RPUSH', processing, id)
      ids[1] = id
    end
  end
  redis.call('HSET', last_claims, executor, nonce .. ' ' .. table.concat(ids, ','))
  set_deadline(expire_at, processing, lease, attempts, last_claims)
  return ids
end
