-- One attempt failed: its token is gone, and the task runs again unless another attempt still holds it or
-- a budget is used up; then the task is dead and the job has failed with that cause. A task that is done
-- already is charged nothing.
-- kind: error (charged to retries) | lost (its process died: charged to lost_leases) | fatal (would fail again)
-- signature: what failed on which record; the same from two executors is a fact, not an accident
-- ordinal, note: of a lost attempt, where records may be skipped: the ordinal of the record, and the
-- sealed record for the next attempt. A record that ends two processes explains both: the charge is given
-- back, since the next attempt skips it. So lost_leases (at least 1) bounds the deaths that nothing
-- explains. More than MAX_EXPLAINED_DEATHS of one task end the job all the same.
-- Crash points: a supervisor that dies before it calls leaves the lease to run out, which names no
-- record; a repeated call finds its token gone (FENCED), so no death counts twice.
-- FLAGS: allow-oom
-- INCLUDE: _end_failed
-- KEYS: meta ready processing lease attempts done result failures budgets
-- ARGV: now_ms id token executor kind signature cause sealed_failure ordinal note
-- RETURNS: {"RETRY"|"DEAD"|"DONE"|"FENCED"|"ENDED"|"GONE", state}
local state, retries, lost_leases, expire_at = unpack(redis.call('HMGET', meta, 'state', 'retries', 'lost_leases', 'expire_at'))
if not state then return { 'GONE', '' } end
local records_key = is_map(id) and done or result
if redis.call('HEXISTS', records_key, string.sub(id, 2)) == 1 then return { 'DONE', state } end
if not RUNNING[state] then return { 'ENDED', state } end
local held, left = drop_token(attempts, id, token)
if not held then return { 'FENCED', state } end
local is_dead = kind == 'fatal'
if kind == 'error' then
  local last_failure = redis.call('HGET', budgets, 'signature:' .. id)
  local last_signature, last_executor = string.match(last_failure or '', '^(%S+) (%S+)$')
  is_dead = redis.call('HINCRBY', budgets, 'error:' .. id, 1) > tonumber(retries)
    or (last_signature == signature and last_executor ~= executor)
  redis.call('HSET', budgets, 'signature:' .. id, signature .. ' ' .. executor)
elseif kind == 'lost' then
  local charge, allowed = 1, tonumber(lost_leases)
  if ordinal ~= '' and redis.call('HGET', meta, 'skip_records') == '1' then
    local notes = (redis.call('HGET', failures, 'crash:' .. id) or '') .. ordinal .. ' ' .. token .. ' ' .. note .. ','
    local _, deaths = string.gsub(',' .. notes, ',' .. ordinal .. ' ', '')
    local _, all_deaths = string.gsub(notes, ',', '')
    if deaths == DEATHS_TO_BLAME_RECORD then charge = -1 end
    allowed = all_deaths > MAX_EXPLAINED_DEATHS and -1 or math.max(allowed, 1)
    redis.call('HSET', failures, 'crash:' .. id, notes)
  end
  is_dead = redis.call('HINCRBY', budgets, 'lost:' .. id, charge) > allowed
end
set_deadline(expire_at, budgets)
if is_dead then
  redis.call('HSET', failures, id, sealed_failure)
  set_deadline(expire_at, failures)
  end_failed(cause, server_ms())
  return { 'DEAD', 'failed' }
end
redis.pcall('HINCRBY', meta, 'retried', 1) -- for the progress rows only
redis.call('HSET', failures, 'last:' .. id, sealed_failure) -- shown while the task is tried again
set_deadline(expire_at, failures)
if left == 0 then
  redis.call('ZREM', lease, id)
  redis.call('LREM', processing, 1, id)
  redis.call('RPUSH', ready, id)
  set_deadline(expire_at, ready)
end
return { 'RETRY', state }
