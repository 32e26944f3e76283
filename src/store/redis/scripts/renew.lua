-- ARGV: 4 the token, 5 the new end of the lease.
local entry = fenced(ARGV[4])
if not entry then return { 'lost' } end
if not ended(entry) then
    clear(KEYS[1], 'given')
    redis.call('HSET', KEYS[1], 'lease', ARGV[5])
end
return { 'ok' }
