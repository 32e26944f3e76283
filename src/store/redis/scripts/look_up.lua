-- KEYS: 1 the answer. ARGV: 1 now.
local row = redis.call('HMGET', KEYS[1], 'keep', 'request', 'until', 'answer')
if not row[1] or tonumber(row[1]) <= tonumber(ARGV[1]) then return { 'absent' } end
return { 'found', row[2], row[3] or '0', row[4] }
