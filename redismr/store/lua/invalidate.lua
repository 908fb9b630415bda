-- A live reducer found segments missing or forged: closes the reduce stage and sends exactly those
-- maps (all maps, if any result exists) to run again, so that no result ever mixes two attempts of a
-- map. Withdrawn reduce tasks are charged nothing; each map is charged one invalidation of three.
-- Crash points: one script, so the stage is either open with all its tasks or closed with none;
-- a reducer that dies before it calls leaves its own lease to expire, and the next one finds the hole.
-- FLAGS: allow-oom
-- INCLUDE: _end_failed
-- KEYS: meta ready processing lease attempts done result out failures budgets
-- ARGV: now_ms id token basis *missing
-- missing: two each: map index, its token; RETURNS: {"OK"|"FENCED"|"STALE"|"DEAD"|"GONE", state, rerun}
local m = redis.call('HMGET', meta, 'state', 'basis', 'expire_at', 'n_map')
if not m[1] then return { 'GONE', '', 0 } end
if m[1] ~= 'reducing' or m[2] ~= basis then return { 'FENCED', m[1], 0 } end
local held = false
for _, holder in ipairs(load_holders(attempts, id)) do held = held or holder[1] == token end
if not held then return { 'FENCED', m[1], 0 } end
local rerun, any = {}, false
for i = 1, #missing, 2 do
  if token_of(redis.call('HGET', done, missing[i])) == missing[i + 1] then
    rerun[missing[i]] = true
    any = true
  end
end
if not any then return { 'STALE', m[1], 0 } end
local now = server_ms()
if redis.call('HLEN', result) > 0 then
  for _, index in ipairs(redis.call('HKEYS', done)) do -- while reducing, every map is there
    if string.match(index, '^%d+$') then rerun[index] = true end
  end
  redis.call('UNLINK', result, out)
end
-- Figures for the progress rows: what is left of the maps that are done, taken as alike.
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
  if redis.call('HINCRBY', budgets, 'invalidated:m' .. index, 1) > 3 then
    redis.call('HSET', failures, 'm' .. index, '')
    set_deadline(m[3], failures, budgets)
    end_failed('the segments of task m' .. index .. ' vanished or were altered in Redis, again and again '
      .. '(eviction, failover, or somebody without the secret)', now)
    return { 'DEAD', 'failed', 0 }
  end
end
scale_figure('read', before - #indexes)
scale_figure('spent_m', before - #indexes)
redis.call('HDEL', meta, 'spent_r')
set_deadline(m[3], ready, budgets)
return { 'OK', 'mapping', #indexes }
