// Scores 5,000 responses and waits for a person's decision: java ScoreAndWait.java (Java 17 or later, and no library)
import java.net.URI;
import java.net.http.*;
import java.util.*;
import java.util.concurrent.Executors;
import java.util.regex.*;
import java.util.stream.*;

class ScoreAndWait {
    static final String URL = System.getenv().getOrDefault("SCOREMUX_URL", "http://127.0.0.1:8005");
    static final String TOKEN = System.getenv("SCOREMUX_TOKEN");
    // Without TLS, Java would ask for HTTP/2 with a header that the API refuses.
    static final HttpClient CLIENT = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();

    static String call(String path, String body) throws Exception {
        var request = HttpRequest.newBuilder(URI.create(URL + path)).header("Content-Type", "application/json");
        if (TOKEN != null) request.header("Authorization", "Bearer " + TOKEN);
        if (body != null) request.POST(HttpRequest.BodyPublishers.ofString(body));
        var answer = CLIENT.send(request.build(), HttpResponse.BodyHandlers.ofString());
        if (answer.statusCode() < 400) return answer.body();
        // An error is a problem (RFC 9457); where it is retryable, Retry-After says when.
        var after = answer.headers().firstValueAsLong("retry-after");
        Thread.sleep(1000 * after.orElseThrow(() -> new RuntimeException(answer.body())));
        return call(path, body);
    }

    /** Finds texts in flat JSON; a platform uses its JSON library. */
    static List<MatchResult> find(String json, String pattern) {
        return Pattern.compile(pattern).matcher(json).results().toList();
    }

    public static void main(String[] arguments) throws Exception {
        String run = UUID.randomUUID().toString().substring(0, 8);
        // Ids are new in each run; the sandbox takes the outcome from their beginning: `limited` is refused once.
        var rows = IntStream.range(0, 5000).mapToObj(n -> """
            {"id": "%s-%s-%d", "task": "sandbox-1", "text": "It hands out addresses."}""".formatted(
            n == 0 ? "limited" : n == 1 ? "human" : "machine", run, n)).toList();
        var threads = Executors.newFixedThreadPool(4); // four requests at once
        var sent = IntStream.iterate(0, n -> n < 5000, n -> n + 512).mapToObj(n -> threads.submit(() ->
            call("/v1/score", "{\"rows\": [" + String.join(",", rows.subList(n, Math.min(n + 512, 5000))) + "]}"))).toList();
        for (var answer : sent) System.out.println(find(answer.get(), "\"id\":").size() + " rows scored");
        threads.shutdown();

        String decided = "\"type\":\"(\\w+)\",\"task\":\"[^\"]+\",\"id\":\"(human-" + run + "-1)\",\"level\":(\\d+)";
        List<MatchResult> changes = List.of();
        for (String after = ""; changes.isEmpty(); ) {
            String page = call("/v1/changes?wait=30" + after, null);
            changes = find(page, decided);
            after = "&after=" + find(page, ".*\"cursor\":\"([^\"]+)\"").get(0).group(1); // a platform stores it
        }
        var change = changes.get(0);
        System.out.printf("%s %s level %s%n", change.group(2), change.group(1), change.group(3));
    }
}
