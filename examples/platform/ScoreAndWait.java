// Scores two responses and waits for a person's decision: java ScoreAndWait.java (Java 17 or later, and no library)
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.util.UUID;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

class ScoreAndWait {
    static final String URL = System.getenv().getOrDefault("SCOREMUX_URL", "http://127.0.0.1:8005");
    static final String TOKEN = System.getenv("SCOREMUX_TOKEN");
    // Without TLS, Java would ask for HTTP/2 with a header that the API refuses.
    static final HttpClient CLIENT = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();

    static String call(HttpRequest.Builder request) throws Exception {
        if (TOKEN != null) request.header("Authorization", "Bearer " + TOKEN);
        var answer = CLIENT.send(request.build(), BodyHandlers.ofString());
        // An error is a problem (RFC 9457); where it is retryable, Retry-After says when.
        if (answer.statusCode() >= 400) throw new RuntimeException(answer.statusCode() + ": " + value(answer.body(), "detail"));
        return answer.body();
    }

    /** Takes one member out of flat JSON; a platform uses its JSON library. */
    static String value(String json, String name) {
        Matcher found = Pattern.compile("\"" + name + "\":\\s*(\"([^\"]*)\"|[^,}\\]]+)").matcher(json);
        return !found.find() ? "" : found.group(2) != null ? found.group(2) : found.group(1);
    }

    public static void main(String[] arguments) throws Exception {
        String run = UUID.randomUUID().toString().substring(0, 8);
        // Ids are new in each run; the sandbox takes the outcome from their beginning.
        String rows = """
            {"rows": [
              {"id": "machine-%1$s", "task": "sandbox-1", "text": "It hands out addresses."},
              {"id": "human-%1$s", "task": "sandbox-1", "text": "It gives every device its address."}
            ]}""".formatted(run);
        String scored = call(HttpRequest.newBuilder(URI.create(URL + "/v1/score"))
            .header("Content-Type", "application/json")
            .header("Idempotency-Key", run)
            .POST(HttpRequest.BodyPublishers.ofString(rows)));
        String[] outcomes = scored.split("(?<=\\}),");
        for (String row : outcomes)
            System.out.printf("%s %s level %s %s%n",
                value(row, "id"), value(row, "status"), value(row, "level"), value(row, "route"));
        for (String row : outcomes) {
            if (!value(row, "route").startsWith("human")) continue;
            URI decision = URI.create(URL + "/v1/rows/" + value(row, "task") + "/" + value(row, "id"));
            String decided = call(HttpRequest.newBuilder(decision));
            for (; !value(decided, "state").equals("final"); decided = call(HttpRequest.newBuilder(decision)))
                Thread.sleep(1000);
            System.out.printf("%s %s level %s%n", value(decided, "id"), value(decided, "state"), value(decided, "level"));
        }
    }
}
