-- One attempt failed: its token is gone, the task runs again unless another attempt still holds it or
-- a budget is used up; then it is dead and the job has failed with that cause. A task that is done
-- already is charged nothing.
-- kind: error (charged to retries) | lost (its process died: charged to lost_leases) | fatal (would fail again)
-- signature: what failed on which record; the same from two executors is a fact, not an accident
-- place, note: of a lost one, where records may be skipped: the record's ordinal, and that sealed for
-- the next attempt. A record that ends two processes explains both: the charge is given back, since it
-- is skipped then. So lost_leases (at least 1) bounds the deaths that nothing explains; more than 200
-- of one task end the job all the same.
-- Crash points: a supervisor that dies before it calls leaves the lease to run out, which names no
-- record; a repeated call finds its token gone (FENCED), so no death counts twice.
-- FLAGS: allow-oom
-- INCLUDE: _end
-- KEYS: meta ready processing lease own done result dead tries
-- ARGV: now_ms id token executor kind signature cause blob place note
-- RETURNS: {"RETRY"|"DEAD"|"DONE"|"FENCED"|"ENDED"|"GONE", state}
local m = redis.call('HMGET', meta, 'state', 'retries', 'lost_leases', 'expire_at')
local state = m[1]
if not state then return { 'GONE', '' } end
local book = string.sub(id, 1, 1) == 'm' and done or result
if redis.call('HEXISTS', book, string.sub(id, 2)) == 1 then return { 'DONE', state } end
if not RUNNING[state] then return { 'ENDED', state } end
local held, left = drop_token(own, id, token)
if not held then return { 'FENCED', state } end
local now = clock()
local is_dead = kind == 'fatal'
if kind == 'error' then
  local seen = redis.call('HGET', tries, 'sig:' .. id)
  local before, by = string.match(seen or '', '^(%S+) (%S+)$')
  is_dead = redis.call('HINCRBY', tries, 'error:' .. id, 1) > tonumber(m[2])
    or (before == signature and by ~= executor)
  redis.call('HSET', tries, 'sig:' .. id, signature .. ' ' .. executor)
elseif kind == 'lost' then
  local charge, allowed = 1, tonumber(m[3])
  if place ~= '' and redis.call('HGET', meta, 'skips') == '1' then
    local notes = (redis.call('HGET', dead, 'crash:' .. id) or '') .. place .. ' ' .. token .. ' ' .. note .. ','
    local _, deaths = string.gsub(',' .. notes, ',' .. place .. ' ', '')
    local _, all = string.gsub(notes, ',', '')
    if deaths == 2 then charge = -1 end
    allowed = all > 200 and -1 or math.max(allowed, 1)
    redis.call('HSET', dead, 'crash:' .. id, notes)
  end
  is_dead = redis.call('HINCRBY', tries, 'lost:' .. id, charge) > allowed
end
keep(m[4], tries)
if is_dead then
  redis.call('HSET', dead, id, blob)
  keep(m[4], dead)
  end_failed(cause, now)
  return { 'DEAD', 'failed' }
end
redis.pcall('HINCRBY', meta, 'retried', 1) -- for the progress rows, no more
redis.call('HSET', dead, 'last:' .. id, blob) -- shown while it is tried again
keep(m[4], dead)
if left == 0 then
  redis.call('ZREM', lease, id)
  redis.call('LREM', processing, 1, id)
  redis.call('RPUSH', ready, id)
  keep(m[4], ready)
end
return { 'RETRY', state }
