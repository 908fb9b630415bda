-- Settles the attempts of a commit, in order. Each one depends on the state of its task as the attempts
-- before it left it. All of that is read in one go and written in one go: calls cost a script more than
-- the server (one call for each took 1.4 times as long, with 50 one-item tasks). Nothing is written
-- before all is read.
local commit_size = 8 -- fields of one commit: id token basis chunks shuffled record event read

local function record_place(id)
  return is_map(id) and done or result, string.sub(id, 2)
end

-- Returns key -> field -> what it holds, for the records and attempts of these commits.
local function load_current()
  local wanted, current = { [done] = {}, [result] = {}, [attempts] = {} }, {}
  for i = 1, #commits, commit_size do
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

-- Returns the status of one commit, and for OK since when its attempt has run.
local function judge_commit(current, state, basis, id, token, commit_basis, chunks)
  local records_key, index = record_place(id)
  local committed = current[records_key][index]
  -- Done: by this very call, which is repeated, or by another attempt.
  if committed then return token_of(committed) == token and 'DUP_OK' or 'FENCED' end
  if not RUNNING[state] then return 'FENCED' end -- the job has ended
  local its_attempt = find_attempt(parse_attempts(current[attempts][id]), token)
  if not its_attempt then return 'FENCED' end -- its lease ran out, or its claim was taken back
  if records_key == result then
    if commit_basis ~= basis then return 'FENCED' end -- made of maps that have run again since
    for chunk = 0, tonumber(chunks) - 1 do
      -- A failover took the staged chunks back: `result` must never name what is not there.
      if redis.call('HEXISTS', out, token .. '.' .. string.format('%d', chunk)) == 0 then return 'RESTAGE' end
    end
  end
  return 'OK', its_attempt.since
end

-- Returns a status for each commit, the token of the last one that counts now, the longest ms that one of
-- them took (tasks run one after another: so long the executor was at all of them), and the sums of what
-- the counted ones shuffled and read.
local function count_commits(state, basis, now)
  local current, written, counted, events = load_current(), { [done] = {}, [result] = {} }, {}, {}
  local statuses, last_token, took_ms, all_shuffled, all_read = {}, nil, 0, 0, 0
  for i = 1, #commits, commit_size do
    local id, token, commit_basis, chunks, shuffled, record, event, read = unpack(commits, i, i + commit_size - 1)
    local status, since = judge_commit(current, state, basis, id, token, commit_basis, chunks)
    statuses[#statuses + 1] = status
    if status == 'OK' then
      local records_key, index = record_place(id)
      current[records_key][index] = token .. ' ' .. record
      table.insert(written[records_key], index)
      table.insert(written[records_key], current[records_key][index])
      counted[#counted + 1], events[#events + 1] = id, event
      last_token, took_ms = token, math.max(took_ms, now - (tonumber(since) or now))
      all_shuffled = all_shuffled + (tonumber(shuffled) or 0)
      all_read = all_read + (tonumber(read) or 0)
    end
  end
  if not last_token then return statuses, nil, 0, 0, 0 end
  for records_key, fields in pairs(written) do
    if #fields > 0 then redis.call('HSET', records_key, unpack(fields)) end
  end
  redis.call('HDEL', attempts, unpack(counted))
  redis.call('ZREM', lease, unpack(counted))
  for _, id in ipairs(counted) do redis.call('LREM', processing, 1, id) end
  for _, event in ipairs(events) do publish_event(channel, all_channel, event) end
  return statuses, last_token, took_ms, all_shuffled, all_read
end
