-- Put before every script. Its header's KEYS and ARGV are locals of those names already.
-- Facts to remember: 0 is truthy; a nil cuts a reply short (use false); numbers in replies are
-- truncated to integers; TIME followed by writes is allowed; everything in HGET is a string.

local RUNNING = { submitting = true, mapping = true, reducing = true }

-- Milliseconds on the server's clock: the only clock. Tests pass now_ms instead.
local function clock()
  if now_ms ~= '' then return tonumber(now_ms) end
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

-- One deadline for every key of the job: a list that was emptied is born again without one.
local function keep(expire_at, ...)
  for _, key in ipairs({ ... }) do redis.call('PEXPIREAT', key, expire_at) end
end

-- The attempts that hold a task: a list of {token, executor, started, since}. `since` is when it was
-- given, or seen to have started: it decides who may get a second attempt, and nothing else.
local function holders_in(raw)
  local list = {}
  if raw then
    for token, executor, started, since in string.gmatch(raw, '([^%s,]+) ([^%s,]+) ([01]) ?(%d*)') do
      list[#list + 1] = { token, executor, started, since }
    end
  end
  return list
end

local function holders(own, id)
  return holders_in(redis.call('HGET', own, id))
end

local function set_holders(own, id, list)
  if #list == 0 then return redis.call('HDEL', own, id) end
  local parts = {}
  for i, holder in ipairs(list) do parts[i] = table.concat(holder, ' ') end
  redis.call('HSET', own, id, table.concat(parts, ','))
end

-- Drops one token. Returns whether it was held, how many are left, whether it had started.
local function drop_token(own, id, token)
  local kept, held, started = {}, false, false
  for _, holder in ipairs(holders(own, id)) do
    if holder[1] == token then held, started = true, holder[3] == '1' else kept[#kept + 1] = holder end
  end
  if held then set_holders(own, id, kept) end
  return held, #kept, started
end

local function token_of(record)
  return record and string.match(record, '^(%S+) ')
end
