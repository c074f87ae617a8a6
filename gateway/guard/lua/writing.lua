-- What a script writes, gathered by how long it is to live: each life goes out in one command for all of its keys (MSETEX:
-- Valkey 9.1, Redis 8.4; where there is none each key has its own). The caller ends with `flush()`.
local KEEP = 'keep' -- as long as what stands there
local written = {} -- what a key holds from now on, though it may still be gathered here
local gathered = {}

local function set_all(items, life)
  local n = #items
  local option = life ~= KEEP and life or nil
  items[n + 1], items[n + 2] = option and 'PX' or 'KEEPTTL', option
  local reply = n > 2 and redis.pcall('MSETEX', n / 2, unpack(items))
  if reply and not (type(reply) == 'table' and reply.err) then return end
  for i = 1, n, 2 do redis.call('SET', items[i], items[i + 1], unpack(items, n + 1)) end
end

local function flush()
  for life, items in pairs(gathered) do set_all(items, life) end
  gathered = {}
end

-- life: ms, or KEEP
local function put(key, bytes, life)
  if written[key] then flush() end -- two lives of one key are written in their order
  local items = gathered[life]
  if not items then
    items = {}
    gathered[life] = items
  end
  local n = #items
  items[n + 1], items[n + 2] = key, bytes
  written[key] = bytes
end
