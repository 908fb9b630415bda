-- Counts each attempt's output exactly once: the first live attempt that commits a task counts, every
-- other one is FENCED and has changed nothing. Then claims the next tasks under next_nonce, whatever the
-- first half said. A repeat of the whole call changes nothing. Where `channel` is given, the one call that
-- moves the job to another stage publishes that.
-- Invariants at stake: I3 I4 I5 I6 I7 I12 I13 (ARCHITECTURE.md).
-- FLAGS: allow-oom
-- INCLUDE: _grant_tasks _small_job _advance _task_times _publish _count_commits
-- KEYS: meta end_ ready processing lease attempts done result out last_claims budgets
-- ARGV: now_ms executor next_nonce want min_want want_reduces channel all_channel reducing succeeded *commits
-- commits: eight each: id token basis chunks shuffled record event read; RETURNS: {"OK"|"GONE", state, basis, now, opened, n, status * n, id..., {end, {(index, record)...}}|{}}
-- status: OK | DUP_OK (it was counted before) | FENCED (discard it) | RESTAGE (stage its chunks again)
local state, basis, expire_at, shuffled_before, read_before, map_ms, map_times, reduce_ms, reduce_times =
  unpack(redis.call('HMGET', meta, 'state', 'basis', 'expire_at', 'shuffled', 'input_read',
    'executor_ms_m', 'task_times_m', 'executor_ms_r', 'task_times_r'))
if not state then return { 'GONE', '', '', 0, 0, 0, {} } end
local now = server_ms()

local statuses, last_token, took_ms, shuffled, read = count_commits(state, basis, now)
local opened = 0
if last_token then
  local stage, executor_ms, times = stage_of(last_token), reduce_ms, reduce_times
  if stage == 'm' then executor_ms, times = map_ms, map_times end
  -- Clear text and figures only: no result and no budget depends on them. In one call: one for each would
  -- make a commit of one task a third longer.
  redis.call('HSET', meta, 'shuffled', increased(shuffled_before, shuffled), 'input_read', increased(read_before, read),
    'executor_ms_' .. stage, increased(executor_ms, took_ms),
    'task_times_' .. stage, append_time(times, took_ms / #statuses))
  set_deadline(expire_at, done, result)
  state, opened = advance(last_token, now, expire_at)
  basis = redis.call('HGET', meta, 'basis')
  if opened > 0 then publish_event(channel, all_channel, reducing) end
  if state == 'succeeded' then publish_event(channel, all_channel, succeeded) end
end
-- The caller derived `want` from how long these tasks took. Times of maps tell nothing of reducers.
local maps_just_ended = state == 'reducing' and is_map(commits[1] or '')
local small = state == 'reducing' and is_small_job()
if state == 'reducing' then min_want = reduces_to_grant(want_reduces, small) end
local ids = grant(executor, next_nonce, maps_just_ended and min_want or want, tonumber(min_want), state, now, expire_at)
local reply = { 'OK', state, basis or '', now, opened, #statuses }
for _, status in ipairs(statuses) do reply[#reply + 1] = status end
for _, id in ipairs(ids) do reply[#reply + 1] = id end
local map_outputs = {} -- for the reducers of a small job: see round_trips.py
if maps_just_ended and #ids > 0 and small then
  local sealed = redis.pcall('GET', end_) -- an altered key: the caller meets it when it asks by itself
  if type(sealed) == 'string' then map_outputs = { sealed, redis.call('HGETALL', done) } end
end
reply[#reply + 1] = map_outputs
return reply
