-- Gives claimed tasks back uncharged, to the head of the ready list: they were claimed but not run. Names
-- tasks of one nonce; no task named means all tasks of the nonce (the reply of its claim was lost).
-- FLAGS: allow-oom
-- KEYS: meta ready processing lease attempts last_claims
-- ARGV: now_ms executor nonce *ids
-- RETURNS: {"OK"|"GONE", state, released}
local state, expire_at = unpack(redis.call('HMGET', meta, 'state', 'expire_at'))
if not state then return { 'GONE', '', 0 } end
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
set_deadline(expire_at, ready)
return { 'OK', state, released }
