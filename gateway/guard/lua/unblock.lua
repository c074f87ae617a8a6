-- Lifts a person's provisional block, unless another act is still to follow it: then only this act's token goes.
--
-- KEYS  block (b);  ARGV  token ('': lift it whatever is to follow).  Reply: 1 lifted, 0 not.
local was, left, others = redis.call('GET', KEYS[1]), {}, false
if not was then return 0 end
for _, scope in ipairs(cmsgpack.unpack(was)) do
  if scope ~= '!' .. ARGV[1] then
    left[#left + 1] = scope
    others = others or string.sub(scope, 1, 1) == '!'
  end
end
if others and ARGV[1] ~= '' then
  redis.call('SET', KEYS[1], cmsgpack.pack(left), 'KEEPTTL')
  return 0
end
redis.call('DEL', KEYS[1])
return 1
