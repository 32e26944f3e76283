-- ARGV: 4 the token, 5 until when.
local entry = fenced(ARGV[4])
if not entry then return { 'lost' } end
clear(KEYS[1], 'later')
redis.call('HSET', KEYS[1], 'given', '1', 'later', ARGV[5])
redis.call('HINCRBY', KEYS[1], 'tries', 1)
return { 'ok' }
