-- True if little was shuffled, by few maps: one script may copy it, and one executor may reduce it.
local function is_small_job()
  local shuffled, n_map = unpack(redis.call('HMGET', meta, 'shuffled', 'n_map'))
  return (tonumber(shuffled) or 0) <= SMALL_SHUFFLE_BYTES and (tonumber(n_map) or math.huge) <= SMALL_JOB_MAPS
end

-- How many reduce tasks an executor gets in one grant: all it wants of a small job, else one. The times of
-- one reduce task say too little of the others: each may be long, and other executors must not wait.
local function reduces_to_grant(want_reduces, small)
  return small and tonumber(want_reduces) or math.min(1, tonumber(want_reduces))
end
