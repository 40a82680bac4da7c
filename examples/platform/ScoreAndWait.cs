// Scores 5,000 responses and waits for a person's decision: dotnet run ScoreAndWait.cs (.NET 10 or later)
using System.Net.Http.Headers;
using System.Net.Http.Json;
using System.Text.Json.Nodes;

var url = Environment.GetEnvironmentVariable("SCOREMUX_URL") ?? "http://127.0.0.1:8005";
using var client = new HttpClient { BaseAddress = new Uri(url) };
if (Environment.GetEnvironmentVariable("SCOREMUX_TOKEN") is { } token)
    client.DefaultRequestHeaders.Authorization = new AuthenticationHeaderValue("Bearer", token);

async Task<JsonNode> Call(string path, object? body = null)
{
    using var answer = body is null ? await client.GetAsync(path) : await client.PostAsJsonAsync(path, body);
    var values = JsonNode.Parse(await answer.Content.ReadAsStringAsync())!;
    if (answer.IsSuccessStatusCode) return values;
    // An error is a problem (RFC 9457); where it is retryable, Retry-After says when.
    if (answer.Headers.RetryAfter?.Delta is not { } delay) throw new Exception($"{values}");
    await Task.Delay(delay);
    return await Call(path, body);
}

var run = Guid.NewGuid().ToString()[..8];
// Ids are new in each run; the sandbox takes the outcome from their beginning: `limited` is refused once with 429.
string Id(int n) => $"{(n == 0 ? "limited" : n == 1 ? "human" : "machine")}-{run}-{n}";
var rows = Enumerable.Range(0, 5000).Select(n => new { id = Id(n), task = "sandbox-1", text = "It hands out addresses." });
await Parallel.ForEachAsync(rows.Chunk(512), new ParallelOptions { MaxDegreeOfParallelism = 4 }, async (some, _) =>
{
    Console.WriteLine($"{(await Call("/v1/score", new { rows = some }))["rows"]!.AsArray().Count} rows scored");
});

JsonNode? change = null;
for (var after = ""; change is null;)
{
    var page = await Call($"/v1/changes?wait=30{after}");
    after = $"&after={page["cursor"]}"; // a platform stores the cursor with the changes
    change = page["changes"]!.AsArray().FirstOrDefault(change => $"{change!["id"]}" == Id(1));
}
Console.WriteLine($"{change["id"]} {change["type"]} level {change["level"]}");
