local entry = show(KEYS[1])
if not entry[1] then return { 'absent' } end
return { 'found', entry }
