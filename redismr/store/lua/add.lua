-- Map tasks first..last-1 exist and are claimable exactly once, whatever is repeated: ids are handed
-- in as contiguous ranges, and meta.added is the high-water mark. An empty range renews the submitter.
-- KEYS: meta ready done
-- ARGV: now_ms first last
-- RETURNS: {"OK"|"SHORT"|"ENDED"|"GONE", added, finished, state}; SHORT: a failover took ids back, add from `added`
local state = redis.call('HGET', meta, 'state')
if not state then return { 'GONE', 0, 0, '' } end
local added = math.max(0, tonumber(redis.call('HGET', meta, 'added')))
local finished = redis.call('HLEN', done)
if state ~= 'submitting' then return { 'ENDED', added, finished, state } end
redis.call('HSET', meta, 'submit_until', clock() + tonumber(redis.call('HGET', meta, 'submit_ms')))
if tonumber(first) > added then return { 'SHORT', added, finished, state } end
if tonumber(last) > added then
  for index = added, tonumber(last) - 1 do redis.call('RPUSH', ready, 'm' .. string.format('%d', index)) end
  added = tonumber(last)
  redis.call('HSET', meta, 'added', added)
  keep(redis.call('HGET', meta, 'expire_at'), ready)
end
return { 'OK', added, finished, state }
