-- What a reducer is to read: state, basis, the sealed end and every map record, all of one moment.
-- FLAGS: allow-oom no-writes
-- KEYS: meta end_ done
-- ARGV: now_ms
-- RETURNS: {"OK"|"GONE", state, basis, end, {(index, record)...}}
local m = redis.call('HMGET', meta, 'state', 'basis')
if not m[1] then return { 'GONE', '', '', false, {} } end
if m[1] ~= 'reducing' then return { 'OK', m[1], m[2] or '', false, {} } end
return { 'OK', m[1], m[2], redis.call('GET', end_), redis.call('HGETALL', done) }
