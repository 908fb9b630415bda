-- A job of this id exists afterwards exactly as its first create said; a repeat changes nothing. The one
-- call that makes it publishes `news`, where `channel` is given.
-- KEYS: meta spec code params
-- INCLUDE: _tell
-- ARGV: now_ms spec_blob code_blob params_blob ttl_ms submit_ms channel everybody news *fields
-- RETURNS: {"OK"|"EXISTS", expire_at}
if redis.call('EXISTS', meta) == 1 then
  return { 'EXISTS', redis.call('HGET', meta, 'expire_at') }
end
local now = clock()
local expire_at = now + tonumber(ttl_ms)
redis.call('HSET', meta, 'state', 'submitting', 'added', 0, 'created_at', now, 'seen', now,
  'expire_at', expire_at, 'ttl_ms', ttl_ms, 'submit_ms', submit_ms,
  'submit_until', now + tonumber(submit_ms))
for i = 1, #fields, 2 do redis.call('HSET', meta, fields[i], fields[i + 1]) end
redis.call('SET', spec, spec_blob)
redis.call('SET', code, code_blob)
redis.call('SET', params, params_blob)
keep(expire_at, meta, spec, code, params)
tell(channel, everybody, news)
return { 'OK', tostring(expire_at) }
