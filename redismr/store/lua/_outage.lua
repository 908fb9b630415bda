-- Notes that a supervisor was heard of. If none was for OUTAGE_PART_OF_LEASE of a lease, Redis or every
-- worker was away: leases are re-armed, so that no task is charged for the outage, and their attempts count as
-- begun now, so that none looks slow for it. Every caller asks before it acts on a lease: the first caller
-- after an outage must not spoil it for the others. The submitter's lease has its own time.
-- Crash points: an attempt that died before the outage is not known yet. So a lease is re-armed up
-- to MAX_REARMED (a server may be restarted in a row), and after that only if it was renewed since: workers
-- that are too slow to look in time take each pause for an outage, and would keep the leases of the dead
-- for ever. The fraction of a lease's score counts how often, in REARM_STEPs; a claim or a renewal
-- sets a whole number.
local function rearm_after_outage(now, lease_ms, seen_at)
  local silent_ms, submit_ms = now - (tonumber(seen_at) or 0), tonumber(redis.call('HGET', meta, 'submit_ms'))
  redis.call('HSET', meta, 'supervisor_seen_at', now)
  if silent_ms > submit_ms * OUTAGE_PART_OF_LEASE then redis.call('HSET', meta, 'submit_until', now + submit_ms) end
  if silent_ms <= lease_ms * OUTAGE_PART_OF_LEASE then return false end
  local leases = redis.call('ZRANGE', lease, 0, -1, 'WITHSCORES')
  for i = 1, #leases, 2 do
    local id, rearmed = leases[i], tonumber(leases[i + 1]) % 1
    if rearmed < MAX_REARMED then
      redis.call('ZADD', lease, 'XX', now + lease_ms + rearmed + REARM_STEP, id)
      local live = load_attempts(attempts, id)
      for _, attempt in ipairs(live) do attempt.since = now end
      save_attempts(attempts, id, live)
    end
  end
  return true
end
