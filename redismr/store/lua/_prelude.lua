-- Put before every script. The KEYS and ARGV of its header, and the limits that it names, are locals.
-- Facts to remember: 0 is truthy; a nil cuts a reply short (use false); numbers in replies are
-- truncated to integers; TIME followed by writes is allowed; everything in HGET is a string.

local RUNNING = { submitting = true, mapping = true, reducing = true }

-- Milliseconds on the server's clock: the only clock. Tests pass now_ms instead.
local function server_ms()
  if now_ms ~= '' then return tonumber(now_ms) end
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

-- Gives every key of the job its one deadline: a list that was emptied has none when it is filled again.
local function set_deadline(expire_at, ...)
  for _, key in ipairs({ ... }) do redis.call('PEXPIREAT', key, expire_at) end
end

-- The live attempts of a task, from its field of `attempts`. `since` is when the attempt was granted, or
-- seen to have started: it decides who may get a backup attempt, and nothing else.
local function parse_attempts(raw)
  local list = {}
  if raw then
    for token, executor, started, since in string.gmatch(raw, '([^%s,]+) ([^%s,]+) ([01]) ?(%d*)') do
      list[#list + 1] = { token = token, executor = executor, started = started, since = since }
    end
  end
  return list
end

local function load_attempts(attempts, id)
  return parse_attempts(redis.call('HGET', attempts, id))
end

local function save_attempts(attempts, id, list)
  if #list == 0 then return redis.call('HDEL', attempts, id) end
  local parts = {}
  for i, attempt in ipairs(list) do
    parts[i] = attempt.token .. ' ' .. attempt.executor .. ' ' .. attempt.started .. ' ' .. attempt.since
  end
  redis.call('HSET', attempts, id, table.concat(parts, ','))
end

local function find_attempt(live, token)
  for _, attempt in ipairs(live) do
    if attempt.token == token then return attempt end
  end
end

-- Drops one attempt of a task. Returns whether it held the task, and how many attempts are left.
local function drop_token(attempts, id, token)
  local others, was_held = {}, false
  for _, attempt in ipairs(load_attempts(attempts, id)) do
    if attempt.token == token then was_held = true else others[#others + 1] = attempt end
  end
  if was_held then save_attempts(attempts, id, others) end
  return was_held, #others
end

-- A task's id and its tokens begin with its stage: m or r.
local function stage_of(id)
  return string.sub(id, 1, 1)
end

local function is_map(id)
  return stage_of(id) == 'm'
end

local function token_of(record)
  return record and string.match(record, '^(%S+) ')
end

-- The worker of an executor: what stands before the last colon.
local function worker_of(executor)
  return string.match(executor, '^(.*):') or executor
end
