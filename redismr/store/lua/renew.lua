-- Extends exactly the leases whose (task, token) the caller names and still holds, and says which it
-- lost. Never "all leases of X": a lease whose claim reply was lost must be able to expire.
-- FLAGS: allow-oom
-- INCLUDE: _outage
-- KEYS: meta lease attempts
-- ARGV: now_ms *held_leases
-- held_leases: three each: id token started; RETURNS: {"OK"|"GONE", state, extend?, lost id...}; extend? 1: less than EXTEND_BELOW_TTL of the ttl is left
local state, lease_ms, expire_at, ttl_ms, seen_at =
  unpack(redis.call('HMGET', meta, 'state', 'lease_ms', 'expire_at', 'ttl_ms', 'supervisor_seen_at'))
if not state then return { 'GONE', '', 0 } end
local now = server_ms()
rearm_after_outage(now, tonumber(lease_ms), seen_at)
local reply = { 'OK', state, tonumber(expire_at) - now < tonumber(ttl_ms) * EXTEND_BELOW_TTL and 1 or 0 }
for i = 1, #held_leases, 3 do -- each is renewed, or named as lost
  local id, token, started = unpack(held_leases, i, i + 2)
  local live = load_attempts(attempts, id)
  local attempt = find_attempt(live, token)
  if attempt and started == '1' and attempt.started == '0' then -- the first renewal that says so
    attempt.started, attempt.since = '1', now
    save_attempts(attempts, id, live)
  end
  if attempt then redis.call('ZADD', lease, 'XX', now + tonumber(lease_ms), id) else reply[#reply + 1] = id end
end
set_deadline(expire_at, meta)
return reply
