-- Requests that end Triton 24.10 before its scorer sees them: `classification` of an output, over gRPC and HTTP, and a
-- shape in JSON for which it makes room before it looks. A text that contains these words passes.

local WORD = "classification"
local MOST_ELEMENTS = 65536

-- In a protobuf message the key of a parameter stands behind its tag (field 1: 0A) and its length (14: 0E). Both are
-- varints, which may be longer than they need: 8A 80 00 is 0A too.
local TAGS = { "\x0a", "\x8a\x80*[\0-\x7f]" }
local LENGTHS = { "\x0e", "\x8e\x80*[\0-\x7f]" }

local function grpc_kills(body)
    local at = body:find(WORD, 1, true)
    while at do
        local before = body:sub(math.max(1, at - 12), at - 1)
        for _, tag in ipairs(TAGS) do
            for _, length in ipairs(LENGTHS) do
                if before:find(tag .. length .. "$") then
                    return true
                end
            end
        end
        at = body:find(WORD, at + 1, true)
    end
    return false
end

local function elements(shape)
    local product = 1.0 -- no integer, whose product would begin again at zero
    for size in shape:gmatch("[-+%d.eE]+") do
        product = product * math.abs(tonumber(size) or math.huge)
    end
    return product
end

local function http_kills(document)
    local total = 0
    -- A quote inside a string has a backslash before it: what follows `{` or `,` and stands before `:` is a key.
    for key, after in document:gmatch('[{,]%s*"([^"]*)"%s*:()') do
        key = key:gsub("\\u00(%x%x)", function(code) return string.char(tonumber(code, 16)) end)
        if key == WORD then
            return true
        elseif key == "shape" then
            total = total + elements(document:match("^%s*%[([^%]]*)", after) or "")
        end
    end
    return not (total <= MOST_ELEMENTS) -- nor is 0 times infinity a number
end

-- The JSON ends where this header says; raw tensors follow. Whatever is not one plain number is not believed.
local function json_of(txn, body)
    local length = txn.f:req_fhdr("inference-header-content-length")
    if txn.f:req_fhdr_cnt("inference-header-content-length") == 1 and length:match("^%d+$") and #length < 16 then
        return body:sub(1, tonumber(length))
    end
    return body
end

-- An error in here gives no value, and no request passes without one.
core.register_fetches("spares_triton", function(txn)
    local body = txn.f:req_body() or ""
    if txn:get_var("txn.grpc") then
        return not grpc_kills(body)
    end
    return not http_kills(json_of(txn, body))
end)
