-- Settles the attempts of a commit, in order. Each needs what is known of its task, as those before it left
-- it: that is read at once and written at once, for a call costs a script more than it costs the server
-- (0.7 of the time that calls for each took, for 50 one-item tasks). Nothing is written before all is read.
local function record_place(id)
  return string.sub(id, 1, 1) == 'm' and done or result, string.sub(id, 2)
end

-- Of each key, by field, what it holds for these commits.
local function load_current()
  local wanted, current = { [done] = {}, [result] = {}, [attempts] = {} }, {}
  for i = 1, #commits, 8 do
    local records_key, index = record_place(commits[i])
    table.insert(wanted[records_key], index)
    table.insert(wanted[attempts], commits[i])
  end
  for key, fields in pairs(wanted) do
    local values = #fields > 0 and redis.call('HMGET', key, unpack(fields)) or {}
    current[key] = {}
    for i, field in ipairs(fields) do current[key][field] = values[i] end
  end
  return current
end

local function judge_commit(current, state, basis, id, token, commit_basis, chunks)
  local records_key, index = record_place(id)
  local committed = current[records_key][index]
  if committed then return token_of(committed) == token and 'DUP_OK' or 'FENCED' end
  if not RUNNING[state] then return 'FENCED' end
  local holder_now = nil
  for _, holder in ipairs(parse_holders(current[attempts][id])) do holder_now = holder[1] == token and holder or holder_now end
  if not holder_now then return 'FENCED' end
  if records_key == result then
    if commit_basis ~= basis then return 'FENCED' end
    for chunk = 0, tonumber(chunks) - 1 do
      -- A failover took the staged chunks back: `result` must never name what is not there.
      if redis.call('HEXISTS', out, token .. '.' .. string.format('%d', chunk)) == 0 then return 'RESTAGE' end
    end
  end
  return 'OK', holder_now[4]
end

-- Returns a status for each, the token of the last that counts now, the most ms that one of them took (as
-- they run one after another, so long an executor was at them), and what those that count shuffled and read.
local function count_commits(state, basis, now)
  local current, written, counted, events = load_current(), { [done] = {}, [result] = {} }, {}, {}
  local statuses, opener, took_ms, shuffled, read = {}, nil, 0, 0, 0
  for i = 1, #commits, 8 do
    local id, token = commits[i], commits[i + 1]
    local status, since = judge_commit(current, state, basis, id, token, commits[i + 2], commits[i + 3])
    statuses[#statuses + 1] = status
    if status == 'OK' then
      local records_key, index = record_place(id)
      current[records_key][index] = token .. ' ' .. commits[i + 5]
      table.insert(written[records_key], index)
      table.insert(written[records_key], current[records_key][index])
      counted[#counted + 1], events[#events + 1] = id, commits[i + 6]
      opener, took_ms = token, math.max(took_ms, now - (tonumber(since) or now))
      shuffled = shuffled + (tonumber(commits[i + 4]) or 0)
      read = read + (tonumber(commits[i + 7]) or 0)
    end
  end
  if not opener then return statuses, nil, 0, 0, 0 end
  for records_key, fields in pairs(written) do
    if #fields > 0 then redis.call('HSET', records_key, unpack(fields)) end
  end
  redis.call('HDEL', attempts, unpack(counted))
  redis.call('ZREM', lease, unpack(counted))
  for _, id in ipairs(counted) do redis.call('LREM', processing, 1, id) end
  for _, event in ipairs(events) do publish_event(channel, all_channel, event) end
  return statuses, opener, took_ms, shuffled, read
end
