-- Ends a running job as failed, with a cause that no single task is to blame for: forged code, spec,
-- end or input; a source that cannot be read to its end. A job that has ended keeps its end.
-- FLAGS: allow-oom
-- INCLUDE: _end_failed
-- KEYS: meta ready processing lease attempts failures
-- ARGV: now_ms cause sealed_failure
-- RETURNS: {"OK"|"ENDED"|"GONE", state}
local m = redis.call('HMGET', meta, 'state', 'expire_at')
if not m[1] then return { 'GONE', '' } end
if not RUNNING[m[1]] then return { 'ENDED', m[1] } end
-- Whatever else was altered must not keep the job from ending: pcall.
redis.pcall('HSET', failures, 'job', sealed_failure)
redis.pcall('PEXPIREAT', failures, tonumber(m[2]) and m[2] or server_ms() + 86400000)
end_failed(cause, server_ms())
return { 'OK', 'failed' }
