-- One attempt failed: its token is gone, the task runs again unless another attempt still holds it or
-- a budget is used up; then it is dead and the job has failed with that cause. A task that is done
-- already is charged nothing.
-- kind: error (charged to retries) | lost (its process died: charged to lost_leases) | fatal (would fail again)
-- signature: what failed on which record; the same from two executors is a fact, not an accident
-- ordinal, note: of a lost one, where records may be skipped: the record's ordinal, and that sealed for
-- the next attempt. A record that ends two processes explains both: the charge is given back, since it
-- is skipped then. So lost_leases (at least 1) bounds the deaths that nothing explains; more than 200
-- of one task end the job all the same.
-- Crash points: a supervisor that dies before it calls leaves the lease to run out, which names no
-- record; a repeated call finds its token gone (FENCED), so no death counts twice.
-- FLAGS: allow-oom
-- INCLUDE: _end_failed
-- KEYS: meta ready processing lease attempts done result failures budgets
-- ARGV: now_ms id token executor kind signature cause sealed_failure ordinal note
-- RETURNS: {"RETRY"|"DEAD"|"DONE"|"FENCED"|"ENDED"|"GONE", state}
local m = redis.call('HMGET', meta, 'state', 'retries', 'lost_leases', 'expire_at')
local state = m[1]
if not state then return { 'GONE', '' } end
local records_key = string.sub(id, 1, 1) == 'm' and done or result
if redis.call('HEXISTS', records_key, string.sub(id, 2)) == 1 then return { 'DONE', state } end
if not RUNNING[state] then return { 'ENDED', state } end
local held, left = drop_token(attempts, id, token)
if not held then return { 'FENCED', state } end
local now = server_ms()
local is_dead = kind == 'fatal'
if kind == 'error' then
  local last_failure = redis.call('HGET', budgets, 'signature:' .. id)
  local last_signature, last_executor = string.match(last_failure or '', '^(%S+) (%S+)$')
  is_dead = redis.call('HINCRBY', budgets, 'error:' .. id, 1) > tonumber(m[2])
    or (last_signature == signature and last_executor ~= executor)
  redis.call('HSET', budgets, 'signature:' .. id, signature .. ' ' .. executor)
elseif kind == 'lost' then
  local charge, allowed = 1, tonumber(m[3])
  if ordinal ~= '' and redis.call('HGET', meta, 'skip_records') == '1' then
    local notes = (redis.call('HGET', failures, 'crash:' .. id) or '') .. ordinal .. ' ' .. token .. ' ' .. note .. ','
    local _, deaths = string.gsub(',' .. notes, ',' .. ordinal .. ' ', '')
    local _, all = string.gsub(notes, ',', '')
    if deaths == 2 then charge = -1 end
    allowed = all > 200 and -1 or math.max(allowed, 1)
    redis.call('HSET', failures, 'crash:' .. id, notes)
  end
  is_dead = redis.call('HINCRBY', budgets, 'lost:' .. id, charge) > allowed
end
set_deadline(m[4], budgets)
if is_dead then
  redis.call('HSET', failures, id, sealed_failure)
  set_deadline(m[4], failures)
  end_failed(cause, now)
  return { 'DEAD', 'failed' }
end
redis.pcall('HINCRBY', meta, 'retried', 1) -- for the progress rows, no more
redis.call('HSET', failures, 'last:' .. id, sealed_failure) -- shown while it is tried again
set_deadline(m[4], failures)
if left == 0 then
  redis.call('ZREM', lease, id)
  redis.call('LREM', processing, 1, id)
  redis.call('RPUSH', ready, id)
  set_deadline(m[4], ready)
end
return { 'RETRY', state }
