-- Hands up to `want` ready tasks to an executor, under tokens made of the task and its nonce. The
-- answer is remembered: the same nonce gets the same tasks, as far as it still owns them (a lost reply).
-- At most a quarter of what is ready goes at once, so that the tail of a stage is shared. With nothing
-- ready, `second` (if given) names a task that may be held twice, with its holders.
local function grant(executor, nonce, want, state, now, expire_at, second)
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
  want = math.min(tonumber(want), math.max(1, math.floor(redis.call('LLEN', ready) / 4)))
  local until_ms = now + tonumber(redis.call('HGET', meta, 'lease_ms'))
  local suspects = redis.call('EXISTS', tries) == 1
  while #ids < want do
    local id = redis.call('LINDEX', ready, 0)
    if not id then break end
    -- A task that once cost its process runs alone: it must not take a batch of others with it.
    local alone = suspects and redis.call('HEXISTS', tries, 'lost:' .. id) == 1
    if alone and #ids > 0 then break end
    redis.call('LMOVE', ready, processing, 'LEFT', 'RIGHT')
    redis.call('ZADD', lease, until_ms, id)
    set_holders(own, id, { { id .. '.' .. nonce, executor, #ids == 0 and '1' or '0', now } })
    ids[#ids + 1] = id
    if alone then break end
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
