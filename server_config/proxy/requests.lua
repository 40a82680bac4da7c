-- What the front door lets through to Triton: inference requests that it has understood to the last byte.
--
-- The fetch `look` reads a whole KServe v2 request to the model `scorer`, over gRPC or HTTP, sets txn.rows, and is true
-- if the token may score every row's task. Whatever it does not know is refused: a field, a parameter or an encoding
-- that Triton might read otherwise than this file does would be a way around the token's tasks.
-- txn.reason never quotes the request.
--
-- It is a fetch since HAProxy interrupts none: each thread holds one request here, whatever many clients send at once.
-- What it makes of that one is bounded by the numbers below, whatever the request's size.

local MODEL = "scorer"
local MOST_ROWS = 512 -- Triton's max_batch_size
local MOST_OUTPUTS = 16
local MOST_VALUES = 4096 -- of JSON: 512 rows in lists of their own take half of it
local LONGEST = 193 -- bytes of a task: 128 of its id, "@" and 64 of a digest; names and keys are shorter
local LONG = ("?"):rep(LONGEST + 1) -- what stands for any longer string, such as a text

local function refuse(reason)
  error({ reason = reason }, 0)
end

local function add_row(found, value)
  if #found == MOST_ROWS then refuse("it has more than " .. MOST_ROWS .. " rows") end
  found[#found + 1] = value
end

local function piece(body, first, last)
  return last - first < LONGEST and body:sub(first, last) or LONG
end

-- The elements of a BYTES tensor in body[first..last], each after its length, little-endian.
local function elements(body, first, last)
  local found = {}
  while first <= last do
    if first + 3 > last then refuse("a tensor breaks off") end
    local size = string.unpack("<I4", body, first)
    if first + 3 + size > last then refuse("a tensor breaks off") end
    add_row(found, piece(body, first + 4, first + 3 + size))
    first = first + 4 + size
  end
  return found
end

-- gRPC ----------------------------------------------------------------------------------------------------------------

local function varint(body, first, last)
  local value, shift = 0, 0
  while first <= last and shift < 35 do
    local byte = body:byte(first)
    value, first = value | (byte & 127) << shift, first + 1
    if byte < 128 then return value, first end
    shift = shift + 7
  end
  refuse("a number breaks off")
end

-- Iterate over a message's fields: number, first and last byte of the content. All that is let through has a length.
local function fields(body, first, last)
  return function()
    if first > last then return nil end
    local tag, size
    tag, first = varint(body, first, last)
    if tag & 7 ~= 2 then refuse("a field is of a kind that the front door does not let through") end
    size, first = varint(body, first, last)
    if first + size - 1 > last then refuse("a field breaks off") end
    local from = first
    first = first + size
    return tag >> 3, from, first - 1
  end
end

local function grpc_input(body, first, last)
  local input, named = { shape = {} }, { [1] = "name", [2] = "datatype", [3] = "shape" }
  local seen = {}
  for number, from, to in fields(body, first, last) do
    local name = named[number]
    if not name then refuse("an input has parameters or contents; send raw_input_contents alone") end
    if seen[name] then refuse("an input says something twice") end
    seen[name] = true
    if name == "shape" then
      while from <= to do
        if #input.shape == 2 then refuse("a shape is not [rows, 1]") end
        input.shape[#input.shape + 1], from = varint(body, from, to)
      end
    else
      input[name] = piece(body, from, to)
    end
  end
  return input
end

local function grpc_output(body, first, last)
  local named = false
  for number in fields(body, first, last) do
    if number ~= 1 then refuse("an output has parameters") end
    if named then refuse("an output says something twice") end
    named = true
  end
end

local function grpc_request(body)
  if #body < 5 or body:byte(1) ~= 0 or string.unpack(">I4", body, 2) ~= #body - 5 then
    refuse("it is not one message without compression")
  end
  local inputs, raw, outputs, said = {}, {}, 0, {}
  for number, from, to in fields(body, 6, #body) do
    if number >= 1 and number <= 3 then -- the model, its version and the request's id
      if said[number] then refuse("it says something twice") end
      said[number] = piece(body, from, to)
    elseif number == 5 then
      if #inputs == 2 then refuse("the inputs are not TEXT and TASK") end
      inputs[#inputs + 1] = grpc_input(body, from, to)
    elseif number == 6 then
      if outputs == MOST_OUTPUTS then refuse("it has too many outputs") end
      outputs = outputs + 1
      grpc_output(body, from, to)
    elseif number == 7 then
      if #raw == 2 then refuse("raw_input_contents and inputs differ in number") end
      raw[#raw + 1] = { from, to }
    else
      refuse("it has parameters, or fields that the front door does not let through")
    end
  end
  if said[1] ~= MODEL then refuse("it is not for the model " .. MODEL) end
  if #raw ~= #inputs then refuse("raw_input_contents and inputs differ in number") end
  for number, input in ipairs(inputs) do
    input.elements = elements(body, raw[number][1], raw[number][2])
  end
  return inputs
end

-- HTTP ----------------------------------------------------------------------------------------------------------------

local ESCAPES = { ['"'] = '"', ["\\"] = "\\", ["/"] = "/", b = "\b", f = "\f", n = "\n", r = "\r", t = "\t" }
local DEPTH = 8
local OBJECT, LIST = {}, {} -- the metatables of what JSON's braces and brackets hold

-- Return what the escape after a backslash stands for, and where it ends.
local function json_escape(text, at)
  local letter = text:sub(at, at)
  if letter ~= "u" then return ESCAPES[letter] or refuse("a JSON escape is wrong"), at + 1 end
  local code = tonumber(text:match("^%x%x%x%x", at + 1) or refuse("a JSON escape is wrong"), 16)
  if code < 0xD800 or code >= 0xE000 then return utf8.char(code), at + 5 end
  local low = tonumber(text:match("^\\u([dD][c-fC-F]%x%x)", at + 5) or refuse("a JSON escape is wrong"), 16)
  if code >= 0xDC00 then refuse("a JSON escape is wrong") end
  return utf8.char(0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00)), at + 11
end

-- Return the end of a string that is longer than any task: a backslash takes the letter after it along, whatever that
-- is. What the string stands for is nobody's business here, and Triton refuses an escape that is none.
local function json_rest(text, at)
  local first = at
  while true do
    local stop = text:find('["\0-\31]', at)
    if not stop then refuse("a JSON string breaks off") end
    if text:byte(stop) ~= 34 then refuse("a JSON string has a control character") end
    local before = stop - 1
    while before >= first and text:byte(before) == 92 do before = before - 1 end
    at = stop + 1
    if (stop - before) % 2 == 1 then return LONG, at end
    first = at
  end
end

local function json_string(text, at)
  local parts, size = {}, 0
  while true do
    local stop = text:find('["\\\0-\31]', at)
    if not stop then refuse("a JSON string breaks off") end
    size = size + stop - at
    if size > LONGEST then return json_rest(text, stop) end
    parts[#parts + 1] = text:sub(at, stop - 1)
    local letter = text:sub(stop, stop)
    if letter == '"' then return table.concat(parts), stop + 1 end
    if letter ~= "\\" then refuse("a JSON string has a control character") end
    local stands_for
    stands_for, at = json_escape(text, stop + 1)
    size = size + #stands_for
    if size > LONGEST then return json_rest(text, at) end
    parts[#parts + 1] = stands_for
  end
end

local json_value

-- Read what stands between an opening bracket before `at` and `close`; `one` reads an element and returns its end.
local function json_list(text, at, close, one)
  at = text:match("^[ \t\r\n]*()", at)
  if text:sub(at, at) == close then return at + 1 end
  while true do
    at = text:match("^[ \t\r\n]*()", one(at))
    local letter = text:sub(at, at)
    if letter == close then return at + 1 end
    if letter ~= "," then refuse("the JSON is not well-formed") end
    at = text:match("^[ \t\r\n]*()", at + 1)
  end
end

-- A strict subset of JSON: no key twice, no null, no number but 0, 1, 2 …; count.values: how many were read.
function json_value(text, at, depth, count)
  if depth > DEPTH then refuse("the JSON is nested too deeply") end
  count.values = count.values + 1
  if count.values > MOST_VALUES then refuse("the JSON has more values than " .. MOST_ROWS .. " rows have") end
  at = text:match("^[ \t\r\n]*()", at)
  local letter = text:sub(at, at)
  if letter == '"' then return json_string(text, at + 1) end
  if letter == "[" then
    local list = setmetatable({}, LIST)
    return list, json_list(text, at + 1, "]", function(here)
      local value, after = json_value(text, here, depth + 1, count)
      list[#list + 1] = value
      return after
    end)
  end
  if letter == "{" then
    local object = setmetatable({}, OBJECT)
    return object, json_list(text, at + 1, "}", function(here)
      if text:sub(here, here) ~= '"' then refuse("the JSON is not well-formed") end
      local key, after = json_string(text, here + 1)
      after = text:match("^[ \t\r\n]*:()", after) or refuse("the JSON is not well-formed")
      if object[key] ~= nil then refuse("a JSON object has a key twice") end
      object[key], after = json_value(text, after, depth + 1, count)
      return after
    end)
  end
  local word, after = text:match("^([%w.+-]+)()", at)
  if word == "true" then return true, after end
  if word == "false" then return false, after end
  if word and #word <= 10 and (word == "0" or word:find("^[1-9]%d*$")) then
    return math.tointeger(tonumber(word)), after
  end
  refuse("the JSON has a value that the front door does not let through")
end

-- Return an object's members. Refuse what is none, or has keys besides those allowed; nothing stands for {}.
local function only(object, allowed)
  if object == nil then return {} end
  if getmetatable(object) ~= OBJECT then refuse("the JSON has another form than the protocol") end
  for key in pairs(object) do
    if not allowed[key] then refuse("it has parameters, or fields that the front door does not let through") end
  end
  return object
end

local function list(value)
  if getmetatable(value) ~= LIST then refuse("the JSON has another form than the protocol") end
  return value
end

-- Append the strings of `data`, a list or a list of lists, to `found`.
local function collect(data, found, depth)
  if depth > 2 then refuse("data is nested too deeply") end
  for _, value in ipairs(list(data)) do
    if type(value) == "string" then add_row(found, value) else collect(value, found, depth + 1) end
  end
  return found
end

local INPUT = { name = true, datatype = true, shape = true, data = true, parameters = true }

local function http_request(body, json_bytes)
  local text = json_bytes == #body and body or body:sub(1, json_bytes)
  local request, after = json_value(text, 1, 0, { values = 0 })
  if text:find("[^ \t\r\n]", after) then refuse("something follows the JSON") end
  only(request, { id = true, inputs = true, outputs = true, parameters = true })
  if request.id ~= nil and type(request.id) ~= "string" then refuse("the id is no string") end
  local whole = only(request.parameters, { binary_data_output = true }).binary_data_output
  if whole ~= nil and type(whole) ~= "boolean" then refuse("a parameter is of the wrong type") end
  for _, output in ipairs(request.outputs ~= nil and list(request.outputs) or {}) do
    only(output, { name = true, parameters = true })
    if type(output.name) ~= "string" then refuse("an output has no name") end
    local binary = only(output.parameters, { binary_data = true }).binary_data
    if binary ~= nil and type(binary) ~= "boolean" then refuse("a parameter is of the wrong type") end
  end
  local first = json_bytes + 1
  for _, input in ipairs(list(request.inputs)) do
    only(input, INPUT)
    local size = only(input.parameters, { binary_data_size = true }).binary_data_size
    if (size == nil) == (input.data == nil) then refuse("an input has data twice, or none") end
    if size == nil then
      input.elements = collect(input.data, {}, 1)
    else
      if math.type(size) ~= "integer" or first + size - 1 > #body then refuse("a tensor breaks off") end
      input.elements = elements(body, first, first + size - 1)
      first = first + size
    end
  end
  if first ~= #body + 1 then refuse("something follows the tensors") end
  return request.inputs
end

-- Both ----------------------------------------------------------------------------------------------------------------

-- Return the elements of TASK, once the request is TEXT and TASK with as many rows each.
local function tasks_of(inputs)
  local tasks, rows
  if #inputs ~= 2 or inputs[1].name == inputs[2].name then refuse("the inputs are not TEXT and TASK") end
  for _, input in ipairs(inputs) do
    if input.name ~= "TEXT" and input.name ~= "TASK" then refuse("the inputs are not TEXT and TASK") end
    if input.datatype ~= "BYTES" then refuse("an input's datatype is not BYTES") end
    local shape = input.shape
    if type(shape) ~= "table" or #shape ~= 2 or shape[2] ~= 1 then refuse("a shape is not [rows, 1]") end
    if shape[1] ~= #input.elements then refuse("a tensor is not as long as its shape says") end
    if rows and shape[1] ~= rows then refuse("TEXT and TASK differ in length") end
    rows = shape[1]
    if input.name == "TASK" then tasks = input.elements end
  end
  if rows == 0 then refuse("it has no rows") end
  return tasks
end

local ID = "[A-Za-z0-9][A-Za-z0-9._-]*"
local compiled = {}

-- The pieces between the stars of each of a token's comma-separated task patterns; a star stands for any letters.
local function compile(patterns)
  if not compiled[patterns] then
    local made = {}
    for pattern in patterns:gmatch("[^,]+") do
      local pieces = {}
      for between in (pattern .. "*"):gmatch("([^*]*)%*") do
        pieces[#pieces + 1] = between
      end
      made[#made + 1] = pieces
    end
    compiled = { [patterns] = made } -- one is enough to save the work, and no change of tokens makes it grow
  end
  return compiled[patterns]
end

-- Whether an id is made of these pieces with anything between them. Each is sought where it comes first: no way back,
-- which Lua's own `.*` would take again and again, where nothing can interrupt it.
local function matches(id, pieces)
  local first, last = pieces[1], pieces[#pieces]
  if #pieces == 1 then return id == first end
  if #id < #first + #last or id:sub(1, #first) ~= first or id:sub(#id - #last + 1) ~= last then return false end
  local at, stop = #first + 1, #id - #last
  for number = 2, #pieces - 1 do
    local from, to = id:find(pieces[number], at, true)
    if not from or to > stop then return false end
    at = to + 1
  end
  return true
end

local function may_score(patterns, tasks)
  if patterns == "*" then return true end
  local known = { [""] = true } -- no task: it gets INVALID_TASK, and clients find out with it whether a server is up
  for _, task in ipairs(tasks) do
    if not known[task] then
      if #task > LONGEST then return false end
      local id = task:match("^(" .. ID .. ")$") or task:match("^(" .. ID .. ")@[0-9a-f]+$")
      for _, pieces in ipairs(id and compile(patterns) or {}) do
        if matches(id, pieces) then known[task] = true end
      end
      if not known[task] then return false end
    end
  end
  return true
end

local function read(txn)
  local body = txn.f:req_body()
  if txn:get_var("txn.route") == "infer-grpc" then return tasks_of(grpc_request(body)) end
  local length = txn.http:req_get_headers()["inference-header-content-length"]
  if not length then return tasks_of(http_request(body, #body)) end
  local bytes = not length[1] and length[0]:find("^%d+$") and #length[0] <= 10 and math.tointeger(tonumber(length[0]))
  if not bytes or bytes < 2 or bytes > #body then refuse("Inference-Header-Content-Length is wrong") end
  return tasks_of(http_request(body, bytes))
end

core.register_fetches("look", function(txn)
  local good, found = pcall(read, txn)
  if not good then
    txn:set_var("txn.reason", type(found) == "table" and found.reason or "the front door failed to read it")
    return false
  end
  local allowed = may_score(txn:get_var("txn.patterns"), found)
  txn:set_var("txn.rows", #found)
  return allowed
end)
