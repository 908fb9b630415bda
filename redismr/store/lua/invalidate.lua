-- A live reducer found segments missing or forged. Closes the reduce stage and sends exactly those maps
-- (all maps, if any result exists) to run again, so that no result ever mixes two attempts of a map.
-- Withdrawn reduce tasks are charged nothing; each map is charged one of its MAX_INVALIDATIONS.
-- Crash points: one script, so the stage is either open with all its tasks or closed with none; a reducer
-- that dies before it calls leaves its own lease to expire, and the next one finds the hole.
-- FLAGS: allow-oom
-- INCLUDE: _end_failed
-- KEYS: meta ready processing lease attempts done result out failures budgets
-- ARGV: now_ms id token basis *missing
-- missing: two each: map index, its token; RETURNS: {"OK"|"FENCED"|"STALE"|"DEAD"|"GONE", state, rerun}
local state, basis_now, expire_at = unpack(redis.call('HMGET', meta, 'state', 'basis', 'expire_at'))
if not state then return { 'GONE', '', 0 } end
if state ~= 'reducing' or basis_now ~= basis then return { 'FENCED', state, 0 } end
local held = find_attempt(load_attempts(attempts, id), token)
if not held then return { 'FENCED', state, 0 } end
local rerun, any = {}, false
for i = 1, #missing, 2 do
  if token_of(redis.call('HGET', done, missing[i])) == missing[i + 1] then
    rerun[missing[i]] = true
    any = true
  end
end
if not any then return { 'STALE', state, 0 } end
if redis.call('HLEN', result) > 0 then
  for _, index in ipairs(redis.call('HKEYS', done)) do -- in this stage `done` holds every map
    if string.match(index, '^%d+$') then rerun[index] = true end
  end
  redis.call('UNLINK', result, out)
end
-- Figures of the progress rows go down to the share of the maps that stay done, as if all maps were alike.
local before = redis.call('HLEN', done)
local function scale_figure(field, after)
  local figure = tonumber(redis.call('HGET', meta, field))
  if figure then redis.call('HSET', meta, field, string.format('%d', figure * after / before)) end
end

redis.call('DEL', ready, processing, lease, attempts)
redis.call('HSET', meta, 'state', 'mapping')
redis.call('HDEL', meta, 'basis')
local indexes = {}
for index in pairs(rerun) do indexes[#indexes + 1] = index end
table.sort(indexes, function(a, b) return tonumber(a) < tonumber(b) end)
for _, index in ipairs(indexes) do
  redis.call('HDEL', done, index)
  redis.call('RPUSH', ready, 'm' .. index)
  if redis.call('HINCRBY', budgets, 'invalidated:m' .. index, 1) > MAX_INVALIDATIONS then -- the map is dead
    redis.call('HSET', failures, 'm' .. index, '')
    set_deadline(expire_at, failures, budgets)
    end_failed('the segments of task m' .. index .. ' vanished or were altered in Redis, again and again '
      .. '(eviction, failover, or somebody without the secret)', server_ms())
    return { 'DEAD', 'failed', 0 }
  end
end
scale_figure('input_read', before - #indexes)
scale_figure('executor_ms_m', before - #indexes)
redis.call('HDEL', meta, 'executor_ms_r')
set_deadline(expire_at, ready, budgets)
return { 'OK', 'mapping', #indexes }
