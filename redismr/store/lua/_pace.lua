-- How long the last few batches of a stage took per task, in meta.pace_m and meta.pace_r: clear text,
-- and only a hint of what is slow. No result and no budget depends on it.
local PACE = 15

local function paces(stage)
  local list = {}
  for ms in string.gmatch(redis.call('HGET', meta, 'pace_' .. stage) or '', '%d+') do list[#list + 1] = tonumber(ms) end
  return list
end

local function note_pace(stage, took)
  local list = paces(stage)
  while #list >= PACE do table.remove(list, 1) end
  list[#list + 1] = math.max(0, math.floor(took))
  redis.call('HSET', meta, 'pace_' .. stage, table.concat(list, ' '))
end

-- 0 if no task of the stage is done yet.
local function median_pace(stage)
  local list = paces(stage)
  table.sort(list)
  return list[math.ceil(#list / 2)] or 0
end
