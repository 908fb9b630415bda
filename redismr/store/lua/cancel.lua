-- A running job is cancelled and its data freed; a job that has ended keeps its end.
-- FLAGS: allow-oom
-- KEYS: meta ready processing lease attempts done result out last_claims failures budgets
-- ARGV: now_ms
-- RETURNS: {"OK"|"ENDED"|"GONE", state}
local state = redis.call('HGET', meta, 'state')
if not state then return { 'GONE', '' } end
if not RUNNING[state] then return { 'ENDED', state } end
redis.call('HSET', meta, 'state', 'cancelled', 'ended_at', server_ms())
redis.call('HDEL', meta, 'basis')
redis.call('UNLINK', ready, processing, lease, attempts, done, result, out, last_claims, failures, budgets)
return { 'OK', 'cancelled' }
