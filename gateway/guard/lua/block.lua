-- Adds scopes to a person's provisional block: stops at once, before anything is written elsewhere.
--
-- KEYS  block (b), fence (f);  ARGV  scopes (msgpack list), life ms, token of the act that is to follow ('': none)
-- A token is kept as one more entry, '!' before it, which is no scope. Beyond 64 of them the block stays for its life.
-- Reply: the fence, Unix ms, 0 none.
local MOST = 64
local was, scopes = redis.call('GET', KEYS[1]), cmsgpack.unpack(ARGV[1])
local known, tokens = {}, 0
for _, scope in ipairs(scopes) do known[scope] = true end
if was then
  for _, scope in ipairs(cmsgpack.unpack(was)) do
    if string.sub(scope, 1, 1) == '!' then tokens = tokens + 1 end
    if not known[scope] then
      scopes[#scopes + 1], known[scope] = scope, true
    end
  end
end
local token = '!' .. (tokens < MOST and ARGV[3] or '!')
if ARGV[3] ~= '' and not known[token] then scopes[#scopes + 1] = token end
redis.call('SET', KEYS[1], cmsgpack.pack(scopes), 'PX', ARGV[2])
return tonumber(redis.call('GET', KEYS[2]) or 0)
