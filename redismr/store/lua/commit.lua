-- Counts each attempt's output exactly once: the first live attempt that commits a task is the one
-- that counts, every other is FENCED and has changed nothing. Then claims the next tasks under
-- next_nonce, whatever the first half said. Repeating the whole call changes nothing. What it has moved
-- is published, where `channel` is given: by the one call that did, and in no round trip of its own.
-- Invariants at stake: I3 I4 I5 I6 I7 I12 I13 (ARCHITECTURE.md).
-- FLAGS: allow-oom
-- INCLUDE: _grant_tasks _small_job _advance _task_times _publish _count_commits
-- KEYS: meta end_ ready processing lease attempts done result out last_claims budgets
-- ARGV: now_ms executor next_nonce want min_want want_reduces channel all_channel reducing succeeded *commits
-- commits: eight each: id token basis chunks shuffled record event read; RETURNS: {"OK"|"GONE", state, basis, now, opened, n, status * n, id..., {end, {(index, record)...}}|{}}
-- status: OK | DUP_OK (it was counted before) | FENCED (discard it) | RESTAGE (stage its chunks again)
local m = redis.call('HMGET', meta, 'state', 'basis', 'expire_at', 'shuffled', 'read', 'spent_m', 'pace_m', 'spent_r', 'pace_r')
if not m[1] then return { 'GONE', '', '', 0, 0, 0, {} } end
local state, basis, expire_at = m[1], m[2], m[3]
local now = server_ms()

local statuses, opener, took_ms, shuffled, read = count_commits(state, basis, now)
local opened = 0
if opener then
  local stage = string.sub(opener, 1, 1)
  local spent, pace = unpack(m, stage == 'm' and 6 or 8)
  -- Clear text and figures only: no result and no budget depends on them. All at once: a call each would
  -- make a commit of one task a third longer.
  redis.call('HSET', meta, 'shuffled', increased(m[4], shuffled), 'read', increased(m[5], read),
    'spent_' .. stage, increased(spent, took_ms), 'pace_' .. stage, append_time(pace, took_ms / #statuses))
  set_deadline(expire_at, done, result)
  state, opened = advance(opener, now, expire_at)
  basis = redis.call('HGET', meta, 'basis')
  if opened > 0 then publish_event(channel, all_channel, reducing) end
  if state == 'succeeded' then publish_event(channel, all_channel, succeeded) end
end
-- `want` goes by how long these took. Of maps, that tells nothing of reducers.
local maps_just_ended = state == 'reducing' and string.sub(commits[1] or '', 1, 1) == 'm'
local small = state == 'reducing' and is_small_job()
if state == 'reducing' then min_want = reduces_to_grant(want_reduces, small) end
local ids = grant(executor, next_nonce, maps_just_ended and min_want or want, tonumber(min_want), state, now, expire_at)
local reply = { 'OK', state, basis or '', now, opened, #statuses }
for _, status in ipairs(statuses) do reply[#reply + 1] = status end
for _, id in ipairs(ids) do reply[#reply + 1] = id end
local map_outputs = {} -- what its reducers read (map_outputs), where that is little: one round trip less
if maps_just_ended and #ids > 0 and small then
  local sealed = redis.pcall('GET', end_) -- if it was altered, who asks by itself hears of it
  if type(sealed) == 'string' then map_outputs = { sealed, redis.call('HGETALL', done) } end
end
reply[#reply + 1] = map_outputs
return reply
