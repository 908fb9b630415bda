-- Whether little was shuffled, by few maps: what one script may copy, and one executor reduce.
local SMALL_SHUFFLE_BYTES, SMALL_JOB_MAPS = 262144, 64
local function is_small_job()
  local m = redis.call('HMGET', meta, 'shuffled', 'n_map')
  return (tonumber(m[1]) or 0) <= SMALL_SHUFFLE_BYTES and (tonumber(m[2]) or math.huge) <= SMALL_JOB_MAPS
end

-- How many reduce tasks an executor gets together that would take so many: those of a job that is small. The
-- pace of another one says too little of the rest, where each may be long, and others must not wait.
local function reduces_to_grant(want_reduces, small)
  return small and tonumber(want_reduces) or math.min(1, tonumber(want_reduces))
end
