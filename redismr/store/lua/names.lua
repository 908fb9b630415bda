-- What a reducer is to read: state, basis and, if the caller does not know this basis yet, every map
-- record, all of one moment.
-- FLAGS: allow-oom
-- KEYS: meta done
-- ARGV: now_ms known
-- RETURNS: {"OK"|"GONE", state, basis, (index, record)...}
local m = redis.call('HMGET', meta, 'state', 'basis')
if not m[1] then return { 'GONE', '', '' } end
if m[1] ~= 'reducing' or m[2] == known then return { 'OK', m[1], m[2] or '', {} } end
return { 'OK', m[1], m[2], redis.call('HGETALL', done) }
