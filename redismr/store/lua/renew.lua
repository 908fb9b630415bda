-- Extends exactly the leases whose (task, token) the caller names and still holds, and says which it
-- lost. Never "all leases of X": a lease whose claim reply was lost must be able to expire.
-- FLAGS: allow-oom
-- INCLUDE: _outage
-- KEYS: meta lease attempts
-- ARGV: now_ms *held_leases
-- pairs: three each: id token started; RETURNS: {"OK"|"GONE", state, extend?, lost id...}; extend? 1: a quarter of the ttl is over
local m = redis.call('HMGET', meta, 'state', 'lease_ms', 'expire_at', 'ttl_ms', 'supervisor_seen_at')
if not m[1] then return { 'GONE', '', 0 } end
local now = server_ms()
rearm_after_outage(now, tonumber(m[2]), m[5])
local reply = { 'OK', m[1], tonumber(m[3]) - now < tonumber(m[4]) * 0.75 and 1 or 0 }
for i = 1, #held_leases, 3 do
  local id, token, is_held = held_leases[i], held_leases[i + 1], false
  local holders = load_holders(attempts, id)
  for _, holder in ipairs(holders) do
    if holder[1] == token then
      is_held = true
      if held_leases[i + 2] == '1' and holder[3] == '0' then
        holder[3], holder[4] = '1', now
        save_holders(attempts, id, holders)
      end
    end
  end
  if is_held then redis.call('ZADD', lease, 'XX', now + tonumber(m[2]), id) else reply[#reply + 1] = id end
end
set_deadline(m[3], meta)
return reply
