-- What permits or stops a message, from a person's state and a plan; shared by admit, check and claim. Writes nothing.
--
-- Person: see person.py. Plan: an array (plans.py), by position:
local BASIS, CONSENTS, RELATIONSHIPS, SCOPES, IGNORED, APPROVED, SENDER, PREFERENCES = 1, 2, 3, 4, 5, 6, 7, 8
local TOPICS, FIELDS, WINDOWS, WEEKLY, WEEKLY_ALL, SAME_TEXT, QUIET, LONGEST, CONSUMED = 9, 10, 11, 12, 13, 14, 15, 16, 17
-- What is asked of admit and check about a message, what admit permits, and what is asked of claim: big endian, as admission.py and claims.py pack them.
local ASK, ASK_BYTES = '>BBBBBBBHHI6c8BI6', 32
local PERMITTED = '>I6bI6B'
local CLAIM, CLAIM_BYTES = '>BBBHI4I6', 15
local OPT_OUT = 2 -- 1 << Reason.OPT_OUT
local NOTHING = {}
local unpack_from, bits_and, bits_or, bits_not = cmsgpack.unpack_one, bit.band, bit.bor, bit.bnot

local function clock(given)
  if given ~= '0' then return tonumber(given) end
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

-- [consents, relationships, suppressions, preferences] of a person's value; nothing stands where there is none
local function parts_of(raw)
  if not raw or #raw <= 5 then return NOTHING end
  local _, parts = unpack_from(raw, 5)
  return parts
end

local function behind(cursor, least)
  return not cursor or tonumber(cursor) < least
end

-- nil, or the code that stops this message. A provisional block is an opt-out of its scopes.
local function stopped(plan, approved, parts, block)
  local held = parts[3]
  if not held and not block then return nil end
  held = held or NOTHING
  local scopes, bits = plan[SCOPES], 0
  for i = 1, #scopes do
    local mask = held[scopes[i]]
    if mask then bits = bits_or(bits, mask) end
  end
  if block then
    local blocked = {}
    for _, scope in ipairs(cmsgpack.unpack(block)) do blocked[scope] = true end
    for i = 1, #scopes do
      if blocked[scopes[i]] then bits = bits_or(bits, OPT_OUT) end
    end
  end
  bits = bits_and(bits, bits_not(approved and plan[APPROVED] or plan[IGNORED]))
  if bits == 0 then return nil end
  if plan[BASIS] == 'c' and bits_and(bits, bits_not(OPT_OUT)) == 0 then return 'consent.withdrawn' end
  return 'suppressed'
end

-- position, entry, max_per_week of the first key that stands
local function standing(keys, held, now)
  if not held then return nil end
  for i = 1, #keys do
    local v = held[keys[i]]
    if v then
      if type(v) == 'number' then return i, v, 0 end
      if v[2] == 0 or now < v[2] * 1000 then return i, v[1], v[3] or 0 end
    end
  end
  return nil
end

-- whether an opt-out from this sender, or from everything, stands: the basis of its own acknowledgement
local function opted_out(plan, parts, block)
  if block then return true end
  local sender = plan[SENDER]
  for scope, mask in pairs(parts[3] or NOTHING) do
    local whose = string.match(scope, '^[^#/]*')
    if bits_and(mask, OPT_OUT) ~= 0 and (whose == '*' or whose == sender) then return true end
  end
  return false
end

-- nil, code   or   key position (consents > 0, relationships < 0, none 0), entry (-1 none), max_per_week
local function permitted(plan, parts, block, now, requested)
  local basis = plan[BASIS]
  if basis == 'q' and requested then return 0, -1, 0 end
  if basis == 'o' and opted_out(plan, parts, block) then return 0, -1, 0 end
  if basis == 'r' then
    local at, entry = standing(plan[RELATIONSHIPS], parts[2], now)
    if at then return -at, entry, 0 end
  end
  local at, entry, most = standing(plan[CONSENTS], parts[1], now)
  if at then return at, entry, most end
  if basis ~= 'r' then
    at, entry = standing(plan[RELATIONSHIPS], parts[2], now)
    if at then return -at, entry, 0 end
  end
  if basis == 'c' then return nil, 'consent.missing' end
  if basis == 'r' then return nil, 'relationship.missing' end
  return nil, 'request.missing'
end

-- whether the person left this topic out, toward the sender or everyone
local function unwanted(plan, preferences)
  local topics = plan[TOPICS]
  if not preferences or not topics then return false end
  for _, whose in ipairs(plan[PREFERENCES]) do
    local wanted = preferences[whose] and preferences[whose][1]
    if wanted then
      local found = false
      for _, topic in ipairs(topics) do
        for _, one in ipairs(wanted) do found = found or one == topic end
      end
      if not found then return true end
    end
  end
  return false
end

-- the hours (minutes of the day) the person wants messages in; the more particular one where two do not meet
local function hours_of(plan, preferences)
  if not preferences or not plan[QUIET] then return nil end
  local from, to
  for _, whose in ipairs(plan[PREFERENCES]) do
    local p = preferences[whose]
    if p and p[4] > 0 then
      if not from then
        from, to = p[3], p[4]
      elseif math.max(from, p[3]) < math.min(to, p[4]) then
        from, to = math.max(from, p[3]), math.min(to, p[4])
      end
    end
  end
  return from, to
end
