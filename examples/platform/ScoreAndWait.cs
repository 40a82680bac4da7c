// Scores two responses and waits for a person's decision: dotnet run ScoreAndWait.cs (.NET 10 or later)
using System.Net.Http.Headers;
using System.Net.Http.Json;
using System.Text.Json.Nodes;

var url = Environment.GetEnvironmentVariable("SCOREMUX_URL") ?? "http://127.0.0.1:8005";
using var client = new HttpClient { BaseAddress = new Uri(url) };
if (Environment.GetEnvironmentVariable("SCOREMUX_TOKEN") is { } token)
    client.DefaultRequestHeaders.Authorization = new AuthenticationHeaderValue("Bearer", token);

async Task<JsonNode> Call(HttpRequestMessage request)
{
    using var answer = await client.SendAsync(request);
    var values = JsonNode.Parse(await answer.Content.ReadAsStringAsync())!;
    // An error is a problem (RFC 9457); where it is retryable, Retry-After says when.
    return answer.IsSuccessStatusCode ? values : throw new Exception($"{(int)answer.StatusCode}: {values["detail"]}");
}

var run = Guid.NewGuid().ToString()[..8];
// Ids are new in each run; the sandbox takes the outcome from their beginning.
var rows = new JsonObject
{
    ["rows"] = new JsonArray(
        new JsonObject { ["id"] = $"machine-{run}", ["task"] = "sandbox-1", ["text"] = "It hands out addresses." },
        new JsonObject { ["id"] = $"human-{run}", ["task"] = "sandbox-1", ["text"] = "It gives every device its address." })
};
var post = new HttpRequestMessage(HttpMethod.Post, "/v1/score") { Content = JsonContent.Create(rows) };
post.Headers.Add("Idempotency-Key", run);
var scored = (await Call(post))["rows"]!.AsArray();
foreach (var row in scored)
    Console.WriteLine($"{row!["id"]} {row["status"]} level {row["level"]} {row["route"]}");

foreach (var row in scored.Where(row => $"{row!["route"]}".StartsWith("human")))
{
    JsonNode decided;
    while ($"{(decided = await Call(new(HttpMethod.Get, $"/v1/rows/{row!["task"]}/{row["id"]}")))["state"]}" != "final")
        await Task.Delay(1000);
    Console.WriteLine($"{decided["id"]} {decided["state"]} level {decided["level"]}");
}
