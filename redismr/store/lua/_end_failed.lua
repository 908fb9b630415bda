-- Ends the job without a result. Code, input and `done` stay until the deadline: `retry` and `replay` may
-- need them. The schedule is emptied, so that no lease, claim or reclaim can act any more.
local function end_failed(cause, now)
  redis.call('HSET', meta, 'state', 'failed', 'cause', cause, 'ended_at', now)
  redis.call('HDEL', meta, 'basis')
  redis.call('UNLINK', ready, processing, lease, attempts)
end
