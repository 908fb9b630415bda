-- Extends exactly the leases whose (task, token) the caller names and still holds, and says which it
-- lost. Never "all leases of X": a lease whose claim reply was lost must be able to expire.
-- FLAGS: allow-oom
-- INCLUDE: _silence
-- KEYS: meta lease own
-- ARGV: now_ms *pairs_
-- pairs: three each: id token started; RETURNS: {"OK"|"GONE", state, extend?, lost id...}; extend? 1: a quarter of the ttl is over
local m = redis.call('HMGET', meta, 'state', 'lease_ms', 'expire_at', 'ttl_ms', 'seen')
if not m[1] then return { 'GONE', '', 0 } end
local now = clock()
broke_silence(now, tonumber(m[2]), m[5])
local reply = { 'OK', m[1], tonumber(m[3]) - now < tonumber(m[4]) * 0.75 and 1 or 0 }
for i = 1, #pairs_, 3 do
  local id, token, mine = pairs_[i], pairs_[i + 1], false
  local list = holders(own, id)
  for _, holder in ipairs(list) do
    if holder[1] == token then
      mine = true
      if pairs_[i + 2] == '1' and holder[3] == '0' then
        holder[3], holder[4] = '1', now
        set_holders(own, id, list)
      end
    end
  end
  if mine then redis.call('ZADD', lease, 'XX', now + tonumber(m[2]), id) else reply[#reply + 1] = id end
end
keep(m[3], meta)
return reply
