-- give_up
-- KEYS: 1 the answer. ARGV: 1 the token of the lease. What is complete stays, and so does the row.
--
-- Without `until` nobody is at work. A server that is full would refuse to write one, see entry.lua.
if redis.call('HGET', KEYS[1], 'token') == ARGV[1] and redis.call('HEXISTS', KEYS[1], 'answer') == 0 then
    redis.call('HDEL', KEYS[1], 'until')
end
return { 'ok' }
