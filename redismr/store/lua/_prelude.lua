-- Put before every script. Its header's KEYS and ARGV are locals of those names already.
-- Facts to remember: 0 is truthy; a nil cuts a reply short (use false); numbers in replies are
-- truncated to integers; TIME followed by writes is allowed; everything in HGET is a string.

local RUNNING = { submitting = true, mapping = true, reducing = true }

-- Milliseconds on the server's clock: the only clock. Tests pass now_ms instead.
local function server_ms()
  if now_ms ~= '' then return tonumber(now_ms) end
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

-- One deadline for every key of the job: a list that was emptied is born again without one.
local function set_deadline(expire_at, ...)
  for _, key in ipairs({ ... }) do redis.call('PEXPIREAT', key, expire_at) end
end

-- The attempts that hold a task: a list of {token, executor, started, since}. `since` is when it was
-- given, or seen to have started: it decides who may get a second attempt, and nothing else.
local function parse_holders(raw)
  local list = {}
  if raw then
    for token, executor, started, since in string.gmatch(raw, '([^%s,]+) ([^%s,]+) ([01]) ?(%d*)') do
      list[#list + 1] = { token, executor, started, since }
    end
  end
  return list
end

local function load_holders(attempts, id)
  return parse_holders(redis.call('HGET', attempts, id))
end

local function save_holders(attempts, id, list)
  if #list == 0 then return redis.call('HDEL', attempts, id) end
  local parts = {}
  for i, holder in ipairs(list) do parts[i] = table.concat(holder, ' ') end
  redis.call('HSET', attempts, id, table.concat(parts, ','))
end

-- Drops one token. Returns whether it was held, how many are left, whether it had started.
local function drop_token(attempts, id, token)
  local others, was_held, started = {}, false, false
  for _, holder in ipairs(load_holders(attempts, id)) do
    if holder[1] == token then was_held, started = true, holder[3] == '1' else others[#others + 1] = holder end
  end
  if was_held then save_holders(attempts, id, others) end
  return was_held, #others, started
end

local function token_of(record)
  return record and string.match(record, '^(%S+) ')
end
