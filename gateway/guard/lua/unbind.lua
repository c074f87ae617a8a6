-- Forgets bindings that still hold exactly this id and fingerprint.
--
-- KEYS  binding (i) of each;  ARGV  id + fingerprint of each.  Reply: 1 forgotten, 0 not.
local replies = {}
for i = 1, #KEYS do
  replies[i] = redis.call('GET', KEYS[i]) == ARGV[i] and redis.call('DEL', KEYS[i]) or 0
end
return replies
