-- Ties idempotency keys to message ids: the first wins. At most 64 a call.
--
-- KEYS  binding (i) of each, then the cursors (c) of their lanes
-- ARGV  number of bindings, then id (16 bytes) + fingerprint, life ms, cursor (position among them), of each
-- Reply: what stands: false where this one is now bound, else the bytes of the earlier one, two more of them if it is of the
--   same body: how often it was repeated, so that whoever bound it before can no longer unbind it; 0 where the lane is empty or
--   being filled: an earlier binding may not be back yet, so none is made.
local n = tonumber(ARGV[1])
assert(#ARGV == 3 * n + 1, 'bind: arguments')
local read = redis.call('MGET', unpack(KEYS))

local function bind(key, given, life, stands)
  if not stands then
    put(key, given, life)
    return false
  end
  if string.sub(stands, 17, #given) == string.sub(given, 17) then
    local repeats = #stands > #given and struct.unpack('>H', stands, #given + 1) or 0
    stands = string.sub(stands, 1, #given) .. struct.pack('>H', (repeats + 1) % 65536)
    put(key, stands, KEEP)
  end
  return stands
end

local replies = {}
for i = 1, n do
  local key, cursor = KEYS[i], read[n + tonumber(ARGV[3 * i + 1])]
  if not cursor or tonumber(cursor) < 0 then
    replies[i] = 0
  else
    replies[i] = bind(key, ARGV[3 * i - 1], ARGV[3 * i], written[key] or read[i])
  end
end
flush()
return replies
