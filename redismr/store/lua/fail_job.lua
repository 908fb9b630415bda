-- Ends a running job as failed, with a cause that no single task is to blame for: forged code, spec,
-- end or input; a source that cannot be read to its end. A job that has ended keeps its end.
-- FLAGS: allow-oom
-- INCLUDE: _end_failed
-- KEYS: meta ready processing lease attempts failures
-- ARGV: now_ms cause sealed_failure
-- RETURNS: {"OK"|"ENDED"|"GONE", state}
local state, expire_at = unpack(redis.call('HMGET', meta, 'state', 'expire_at'))
if not state then return { 'GONE', '' } end
if not RUNNING[state] then return { 'ENDED', state } end
-- pcall: other altered keys must not keep the job from ending.
redis.pcall('HSET', failures, 'job', sealed_failure)
redis.pcall('PEXPIREAT', failures, tonumber(expire_at) and expire_at or server_ms() + DEFAULT_FAILURE_TTL_MS)
end_failed(cause, server_ms())
return { 'OK', 'failed' }
