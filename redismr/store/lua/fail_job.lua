-- Ends a running job as failed, with a cause that no single task is to blame for: forged code, spec,
-- end or input; a source that cannot be read to its end. A job that has ended keeps its end.
-- FLAGS: allow-oom
-- INCLUDE: _end
-- KEYS: meta ready processing lease own dead
-- ARGV: now_ms cause blob
-- RETURNS: {"OK"|"ENDED"|"GONE", state}
local m = redis.call('HMGET', meta, 'state', 'expire_at')
if not m[1] then return { 'GONE', '' } end
if not RUNNING[m[1]] then return { 'ENDED', m[1] } end
-- Whatever else was altered must not keep the job from ending: pcall.
redis.pcall('HSET', dead, 'job', blob)
redis.pcall('PEXPIREAT', dead, tonumber(m[2]) and m[2] or clock() + 86400000)
end_failed(cause, clock())
return { 'OK', 'failed' }
