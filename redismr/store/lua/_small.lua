-- How many reducers an executor gets together that would take so many: those of a job that is small. The
-- pace of another one says too little of the rest, where each may be long, and others must not wait.
local SMALL_SHUFFLE, FEW_MAPS = 262144, 64
local function together(reducers)
  local m = redis.call('HMGET', meta, 'shuffled', 'n_map')
  local small = (tonumber(m[1]) or 0) <= SMALL_SHUFFLE and (tonumber(m[2]) or math.huge) <= FEW_MAPS
  return small and tonumber(reducers) or math.min(1, tonumber(reducers))
end
