-- Returns what a reducer reads, all of one moment: state, basis, the sealed end and every map record.
-- FLAGS: allow-oom no-writes
-- KEYS: meta end_ done
-- ARGV: now_ms
-- RETURNS: {"OK"|"GONE", state, basis, end, {(index, record)...}}
local state, basis = unpack(redis.call('HMGET', meta, 'state', 'basis'))
if not state then return { 'GONE', '', '', false, {} } end
if state ~= 'reducing' then return { 'OK', state, basis or '', false, {} } end
return { 'OK', state, basis, redis.call('GET', end_), redis.call('HGETALL', done) }
