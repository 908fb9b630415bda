-- Notes that a supervisor was heard of. If none was for half a lease, Redis was away or every worker
-- was: all leases, the submitter's too, are re-armed, so that nobody is charged for the outage, and
-- every attempt counts as begun just now, so that none looks slow for it. Every caller asks before it
-- acts on a lease: the first one after an outage must not spoil it for the others.
local function broke_silence(now, lease_ms, seen)
  local silent = now - (tonumber(seen) or 0) > lease_ms / 2
  redis.call('HSET', meta, 'seen', now)
  if silent then
    for _, id in ipairs(redis.call('ZRANGE', lease, 0, -1)) do
      redis.call('ZADD', lease, 'XX', now + lease_ms, id)
      local list = holders(own, id)
      for _, holder in ipairs(list) do holder[4] = now end
      set_holders(own, id, list)
    end
    redis.call('HSET', meta, 'submit_until', now + tonumber(redis.call('HGET', meta, 'submit_ms')))
  end
  return silent
end
