-- Notes that a supervisor was heard of. If none was for half a lease, Redis was away or every worker
-- was: leases are re-armed, so that nobody is charged for the outage, and their attempts count as begun
-- just now, so that none looks slow for it. Every caller asks before it acts on a lease: the first one
-- after an outage must not spoil it for the others. The submitter's lease is another, with a half of its own.
-- Crash points: of an attempt that died before the outage nobody knows yet. So a lease is re-armed three
-- times (a server may be restarted in a row), and again only when it was renewed since: workers too slow
-- to look twice in a lease take each pause for an outage, and would keep the leases of the dead for ever.
-- How often it was is the fraction of its score, in quarters; a renewal or a claim sets a whole number.
local function rearm_after_outage(now, lease_ms, seen_at)
  local silent_ms, submit_ms = now - (tonumber(seen_at) or 0), tonumber(redis.call('HGET', meta, 'submit_ms'))
  redis.call('HSET', meta, 'supervisor_seen_at', now)
  if silent_ms > submit_ms / 2 then redis.call('HSET', meta, 'submit_until', now + submit_ms) end
  if silent_ms <= lease_ms / 2 then return false end
  local leases = redis.call('ZRANGE', lease, 0, -1, 'WITHSCORES')
  for i = 1, #leases, 2 do
    local id, rearmed = leases[i], tonumber(leases[i + 1]) % 1
    if rearmed < 0.75 then
      redis.call('ZADD', lease, 'XX', now + lease_ms + rearmed + 0.25, id)
      local holders = load_holders(attempts, id)
      for _, holder in ipairs(holders) do holder[4] = now end
      save_holders(attempts, id, holders)
    end
  end
  return true
end
