-- KEYS: 1 the answer. What is complete stays.
if redis.call('HEXISTS', KEYS[1], 'answer') == 0 then redis.call('DEL', KEYS[1]) end
return { 'ok' }
