-- A job of this id exists afterwards exactly as its first create said; a repeat changes nothing. Where
-- `channel` is given, the one call that makes the job publishes `event`.
-- KEYS: meta spec code params
-- INCLUDE: _publish
-- ARGV: now_ms spec_blob code_blob params_blob ttl_ms submit_ms channel all_channel event *fields
-- RETURNS: {"OK"|"EXISTS", expire_at}
if redis.call('EXISTS', meta) == 1 then return { 'EXISTS', redis.call('HGET', meta, 'expire_at') } end
local now = server_ms()
local expire_at = now + tonumber(ttl_ms)
redis.call('HSET', meta, 'state', 'submitting', 'maps_added', 0, 'created_at', now, 'supervisor_seen_at', now,
  'expire_at', expire_at, 'ttl_ms', ttl_ms, 'submit_ms', submit_ms, 'submit_until', now + tonumber(submit_ms))
for i = 1, #fields, 2 do redis.call('HSET', meta, fields[i], fields[i + 1]) end
redis.call('SET', spec, spec_blob)
redis.call('SET', code, code_blob)
redis.call('SET', params, params_blob)
set_deadline(expire_at, meta, spec, code, params)
publish_event(channel, all_channel, event)
return { 'OK', tostring(expire_at) }
