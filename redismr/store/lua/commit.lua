-- Counts each attempt's output exactly once: the first live attempt that commits a task is the one
-- that counts, every other is FENCED and has changed nothing. Then claims the next tasks under
-- next_nonce, whatever the first half said. Repeating the whole call changes nothing. What it has moved
-- is published, where `channel` is given: by the one call that did, and in no round trip of its own.
-- Invariants at stake: I3 I4 I5 I6 I7 I12 I13 (ARCHITECTURE.md).
-- FLAGS: allow-oom
-- INCLUDE: _grant _advance _pace _tell
-- KEYS: meta ready processing lease own done result out claims tries
-- ARGV: now_ms executor next_nonce want channel everybody reducing succeeded *commits
-- commits: seven each: id token basis chunks shuffled record news; RETURNS: {"OK"|"GONE", state, basis, now, opened, n, status * n, id...}
-- status: OK | DUP_OK (it was counted before) | FENCED (discard it) | RESTAGE (stage its chunks again)
local m = redis.call('HMGET', meta, 'state', 'basis', 'expire_at')
if not m[1] then return { 'GONE', '', '', 0, 0, 0 } end
local state, basis, expire_at = m[1], m[2], m[3]
local now = clock()

local function settle(id, token, its_basis, chunks, record)
  local book = string.sub(id, 1, 1) == 'm' and done or result
  local index = string.sub(id, 2)
  local before = redis.call('HGET', book, index)
  if before then return token_of(before) == token and 'DUP_OK' or 'FENCED' end
  if not RUNNING[state] then return 'FENCED' end
  local mine = nil
  for _, holder in ipairs(holders(own, id)) do mine = holder[1] == token and holder or mine end
  if not mine then return 'FENCED' end
  if book == result then
    if its_basis ~= basis then return 'FENCED' end
    for chunk = 0, tonumber(chunks) - 1 do
      -- A failover took the staged chunks back: `result` must never name what is not there.
      if redis.call('HEXISTS', out, token .. '.' .. string.format('%d', chunk)) == 0 then return 'RESTAGE' end
    end
  end
  redis.call('HSET', book, index, token .. ' ' .. record)
  redis.call('HDEL', own, id)
  redis.call('ZREM', lease, id)
  redis.call('LREM', processing, 1, id)
  return 'OK', now - (tonumber(mine[4]) or now)
end

local statuses, opener, took = {}, nil, 0
for i = 1, #commits, 7 do
  local status, age = settle(commits[i], commits[i + 1], commits[i + 2], commits[i + 3], commits[i + 5])
  statuses[#statuses + 1] = status
  if status == 'OK' then
    opener, took = commits[i + 1], math.max(took, age)
    redis.pcall('HINCRBY', meta, 'shuffled', commits[i + 4]) -- a figure for the progress rows, no more
    tell(channel, everybody, commits[i + 6])
  end
end
local opened = 0
if opener then
  note_pace(string.sub(opener, 1, 1), took / #statuses)
  keep(expire_at, done, result)
  state, opened = advance(opener, now, expire_at)
  basis = redis.call('HGET', meta, 'basis')
  if opened > 0 then tell(channel, everybody, reducing) end
  if state == 'succeeded' then tell(channel, everybody, succeeded) end
end
-- `want` goes by how long these took: of maps, it tells nothing of reducers.
if state == 'reducing' and string.sub(commits[1] or '', 1, 1) == 'm' then want = math.min(1, tonumber(want)) end
-- It is 50 ms of work by the last ones, and 3 ms of maps are too little to share: eight one-item tasks come
-- back in 0.91 of the time.
local least = state == 'reducing' and 0 or math.floor(want / 16)
local ids = grant(executor, next_nonce, want, least, state, now, expire_at)
local reply = { 'OK', state, basis or '', now, opened, #statuses }
for _, status in ipairs(statuses) do reply[#reply + 1] = status end
for _, id in ipairs(ids) do reply[#reply + 1] = id end
return reply
