-- Adds scopes to a person's provisional block: stops at once, before anything is written elsewhere.
--
-- KEYS  block (b), fence (f);  ARGV  scopes (msgpack list), life ms.  Reply: the fence, Unix ms, 0 none.
local was, scopes = redis.call('GET', KEYS[1]), cmsgpack.unpack(ARGV[1])
if was then
  local known = {}
  for _, scope in ipairs(scopes) do known[scope] = true end
  for _, scope in ipairs(cmsgpack.unpack(was)) do
    if not known[scope] then scopes[#scopes + 1] = scope end
  end
end
redis.call('SET', KEYS[1], cmsgpack.pack(scopes), 'PX', ARGV[2])
return tonumber(redis.call('GET', KEYS[2]) or 0)
