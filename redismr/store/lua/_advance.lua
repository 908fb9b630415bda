-- The tail of commit and close: moves the job on when its stage is complete. It counts what the hashes
-- hold and keeps no counter, so no lost or doubled step can miss the end of a stage or reach it twice.
-- `new_basis` (a token or nonce of the caller) becomes the basis that reduce commits must name, if this opens
-- the reduce stage. Returns state, number of tasks made ready.
local function advance(new_basis, now, expire_at)
  local state, n_map, partitions = unpack(redis.call('HMGET', meta, 'state', 'n_map', 'partitions'))
  -- Clear text: an altered number must not keep the server in a loop.
  n_map, partitions = tonumber(n_map or ''), math.min(tonumber(partitions or '') or -1, MAX_PARTITIONS)
  local opened = 0
  if state == 'mapping' and n_map and redis.call('HLEN', done) == n_map then
    state = 'reducing'
    redis.call('HSET', meta, 'state', state, 'basis', new_basis)
    if n_map > 0 then
      for p = 0, partitions - 1 do
        if redis.call('HEXISTS', result, p) == 0 then
          redis.call('RPUSH', ready, 'r' .. string.format('%d', p))
          opened = opened + 1
        end
      end
    end
    set_deadline(expire_at, ready)
  end
  if state == 'reducing' and (n_map == 0 or redis.call('HLEN', result) == partitions) then
    state = 'succeeded'
    redis.call('HSET', meta, 'state', state, 'ended_at', now)
    redis.call('HDEL', meta, 'basis')
    -- Every result manifest carries what it needs of the maps, so their records can go.
    redis.call('UNLINK', ready, processing, lease, attempts, done)
  end
  return state, opened
end
