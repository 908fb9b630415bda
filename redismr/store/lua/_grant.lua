-- The map task that a worker alone may run, of a job with one for each; moves it if it is ready.
local function take_own(executor)
  local id = redis.call('HGET', meta, 'for:' .. (string.match(executor, '^(.*):') or executor))
  if not id or redis.call('LREM', ready, 1, id) == 0 then return nil end
  redis.call('RPUSH', processing, id)
  return id
end

local MOST = 1000 -- Lua hands over some thousand arguments; executors ask for 64

-- Hands up to `want` ready tasks to an executor, under tokens made of the task and its nonce. The
-- answer is remembered: the same nonce gets the same tasks, as far as it still owns them (a lost reply).
-- At most a quarter of what is ready goes at once, so that the tail of a stage is shared; or `least`,
-- of which the work is not worth a round trip. With nothing ready, `second` (if given) names a task that
-- may be held twice, with its holders. Of a job with one map task for each worker (meta.each) an executor
-- gets none but its worker's.
local function grant(executor, nonce, want, least, state, now, expire_at, second)
  local ids = {}
  if nonce == '' then return ids end
  local memo = redis.call('HGET', claims, executor)
  local last, given = string.match(memo or '', '^(%S+) (.*)$')
  if last == nonce then
    for id in string.gmatch(given, '[^,]+') do
      for _, holder in ipairs(holders(own, id)) do
        if holder[1] == id .. '.' .. nonce then ids[#ids + 1] = id end
      end
    end
    return ids
  end
  if not RUNNING[state] then return ids end
  want = tonumber(want)
  want = math.min(want, math.max(1, least, math.floor(redis.call('LLEN', ready) / 4)))
  local m = redis.call('HMGET', meta, 'lease_ms', 'each')
  local until_ms, each = now + tonumber(m[1]), m[2] == '1' and state ~= 'reducing'
  local suspects = redis.call('EXISTS', tries) == 1
  if each or suspects then
    while #ids < want do
      local id
      if each then id = take_own(executor) else id = redis.call('LINDEX', ready, 0) end
      if not id then break end
      -- A task that once cost its process runs alone: it must not take a batch of others with it.
      local alone = suspects and redis.call('HEXISTS', tries, 'lost:' .. id) == 1
      if alone and #ids > 0 then break end
      if not each then redis.call('LMOVE', ready, processing, 'LEFT', 'RIGHT') end
      ids[#ids + 1] = id
      if alone then break end
    end
  elseif want > 0 then
    ids = redis.call('LRANGE', ready, 0, math.min(want, MOST) - 1)
    if #ids > 0 then -- first what may be refused, for a key that was altered
      redis.call('RPUSH', processing, unpack(ids))
      redis.call('LTRIM', ready, #ids, -1)
    end
  end
  if #ids > 0 then
    local leases, owners = {}, {}
    for i, id in ipairs(ids) do
      leases[2 * i - 1], leases[2 * i] = until_ms, id
      owners[2 * i - 1] = id
      owners[2 * i] = id .. '.' .. nonce .. ' ' .. executor .. (i == 1 and ' 1 ' or ' 0 ') .. now
    end
    redis.call('ZADD', lease, unpack(leases))
    redis.call('HSET', own, unpack(owners))
  end
  if second and #ids == 0 and want > 0 then
    local id, list = second()
    if id then
      list[#list + 1] = { id .. '.' .. nonce, executor, '1', now }
      set_holders(own, id, list)
      redis.call('ZADD', lease, until_ms, id)
      -- To the end of the line: the oldest claims are looked at for those that are slow.
      redis.call('LREM', processing, 1, id)
      redis.call('RPUSH', processing, id)
      ids[1] = id
    end
  end
  redis.call('HSET', claims, executor, nonce .. ' ' .. table.concat(ids, ','))
  keep(expire_at, processing, lease, own, claims)
  return ids
end
