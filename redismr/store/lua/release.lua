-- Gives claimed tasks back uncharged, to the head of the line: they were claimed but not run. Names
-- the tasks of one nonce; none named means all that the nonce was given (its claim reply was lost).
-- FLAGS: allow-oom
-- KEYS: meta ready processing lease attempts last_claims
-- ARGV: now_ms executor nonce *ids
-- RETURNS: {"OK"|"GONE", state, released}
local m = redis.call('HMGET', meta, 'state', 'expire_at')
if not m[1] then return { 'GONE', '', 0 } end
if #ids == 0 then
  local last_nonce, last_ids = string.match(redis.call('HGET', last_claims, executor) or '', '^(%S+) (.*)$')
  if last_nonce == nonce then for id in string.gmatch(last_ids, '[^,]+') do ids[#ids + 1] = id end end
end
local released = 0
for i = #ids, 1, -1 do
  local held, left = drop_token(attempts, ids[i], ids[i] .. '.' .. nonce)
  if held and left == 0 then
    redis.call('ZREM', lease, ids[i])
    redis.call('LREM', processing, 1, ids[i])
    redis.call('LPUSH', ready, ids[i])
    released = released + 1
  end
end
set_deadline(m[2], ready)
return { 'OK', m[1], released }
