-- Publishes an event on a transaction's channel and on that of all, if there is one. A hint: where this
-- user may not publish (ACL), the step it belongs to is taken all the same, and whole.
local function tell(channel, everybody, news)
  if channel == '' or news == '' then return end
  redis.pcall('PUBLISH', channel, news)
  redis.pcall('PUBLISH', everybody, news)
end
