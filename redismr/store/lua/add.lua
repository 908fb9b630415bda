-- Map tasks first..last-1 exist and are claimable exactly once, whatever is repeated: ids come in
-- contiguous ranges, and meta.maps_added is the high-water mark. An empty range only renews the submitter.
-- Their input is written in the same transaction, by plain commands before this script: a server that is
-- taken back (a failover, a cut log) between the two would have tasks without input.
-- allow-oom: a submitter that waits for room is alive, and must be able to say so. A full server refuses
-- the plain commands, and with them the transaction.
-- `workers`, one for each index of the range, are the only workers that may run the task: of a job with
-- one map task for each worker (meta.each_worker). The worker is written in the same step as the task, so
-- no crash leaves a task that any worker takes.
-- `input_added` says how much input there is so far, for the progress rows; empty: no news.
-- FLAGS: allow-oom
-- KEYS: meta ready done
-- ARGV: now_ms first last input_added *workers
-- RETURNS: {"OK"|"SHORT"|"ENDED"|"GONE", added, finished, state}; SHORT: a failover took ids back, add from `added`
local state, added, submit_ms, expire_at = unpack(redis.call('HMGET', meta, 'state', 'maps_added', 'submit_ms', 'expire_at'))
if not state then return { 'GONE', 0, 0, '' } end
added = math.max(0, tonumber(added))
local finished = redis.call('HLEN', done)
if state ~= 'submitting' then return { 'ENDED', added, finished, state } end
redis.call('HSET', meta, 'submit_until', server_ms() + tonumber(submit_ms))
if input_added ~= '' then redis.call('HSET', meta, 'input_added', input_added) end
if tonumber(first) > added then return { 'SHORT', added, finished, state } end
if tonumber(last) > added then
  for index = added, tonumber(last) - 1 do
    local id, worker = 'm' .. string.format('%d', index), workers[index - tonumber(first) + 1]
    redis.call('RPUSH', ready, id)
    if worker then redis.call('HSET', meta, 'assigned:' .. worker, id) end
  end
  added = tonumber(last)
  redis.call('HSET', meta, 'maps_added', added)
  set_deadline(expire_at, ready)
end
return { 'OK', added, finished, state }
