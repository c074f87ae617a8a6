-- Takes a chunk of a quota or cap of one period, never past it.
--
-- KEYS  quota (q);  ARGV  chunk wanted, quota, life s.  Reply: how much was taken, 0 when it is used up.
local left = tonumber(ARGV[2]) - tonumber(redis.call('GET', KEYS[1]) or 0)
local taken = math.min(tonumber(ARGV[1]), left)
if taken <= 0 then return 0 end
redis.call('INCRBY', KEYS[1], taken)
redis.call('EXPIRE', KEYS[1], ARGV[3])
return taken
