import static java.nio.charset.StandardCharsets.UTF_8;

import java.io.*;
import java.net.URI;
import java.net.http.*;
import java.util.*;
import java.util.regex.*;
import java.util.stream.*;

/** Scores lines "task TAB text": java Score.java http://localhost:8000 [TOKEN] < rows.tsv (JDK 17, no library). */
public class Score {
    static final String[] OUTPUTS = {"STATUS", "LEVEL", "SCORE", "ROUTE"};
    static final int MOST_ROWS = 512;

    public static void main(String[] args) throws Exception {
        var rows = new BufferedReader(new InputStreamReader(System.in, UTF_8)).lines().map(l -> l.split("\t", 2)).toList();
        var out = new PrintStream(System.out, false, UTF_8);
        for (int first = 0; first < rows.size(); first += MOST_ROWS) {
            var part = rows.subList(first, Math.min(first + MOST_ROWS, rows.size()));
            String answer = post(args[0] + "/v2/models/scorer/infer", request(part), args.length > 1 ? args[1] : "");
            String[][] columns = Stream.of(OUTPUTS).map(name -> values(answer, name)).toArray(String[][]::new);
            for (int i = 0; i < part.size(); i++) { // STATUS first: SCORE of a row without one is no number of points
                boolean scored = columns[0][i].equals("OK");
                out.println(String.join("\t", columns[0][i], columns[1][i], scored ? columns[2][i] : "", columns[3][i]));
            }
        }
        out.flush();
    }

    static String request(List<String[]> rows) {
        String outputs = Stream.of(OUTPUTS).map(name -> "{\"name\":\"" + name + "\"}").collect(Collectors.joining(","));
        return "{\"inputs\":[" + tensor("TASK", rows, 0) + "," + tensor("TEXT", rows, 1) + "],\"outputs\":[" + outputs + "]}";
    }

    static String tensor(String name, List<String[]> rows, int column) {
        String data = rows.stream().map(row -> quoted(row[column])).collect(Collectors.joining(","));
        return "{\"name\":\"" + name + "\",\"datatype\":\"BYTES\",\"shape\":[" + rows.size() + ",1],\"data\":[" + data + "]}";
    }

    static String quoted(String text) {
        return text.chars().mapToObj(c -> c < 32 || c > 126 || c == '"' || c == '\\' ? String.format("\\u%04x", c)
            : String.valueOf((char) c)).collect(Collectors.joining("", "\"", "\""));
    }

    static String[] values(String answer, String name) {
        var data = Pattern.compile("\"name\":\"" + name + "\"[^\\[]*\\[[^\\]]*\\][^\\[]*\"data\":\\[([^\\]]*)\\]").matcher(answer);
        if (!data.find()) throw new IllegalStateException("the answer has no " + name);
        return data.group(1).replace("\"", "").split(",", -1);
    }

    static String post(String url, String body, String token) throws Exception {
        var request = HttpRequest.newBuilder(URI.create(url)).POST(HttpRequest.BodyPublishers.ofString(body, UTF_8));
        if (!token.isEmpty()) request.header("Authorization", "Bearer " + token);
        for (long pauseS = 1; ; pauseS *= 2) { // sending a row twice does no harm
            String wrong;
            try {
                var answer = HttpClient.newHttpClient().send(request.build(), HttpResponse.BodyHandlers.ofString(UTF_8));
                if (answer.statusCode() == 200) return answer.body();
                wrong = "HTTP " + answer.statusCode() + ": " + answer.body();
                if (!List.of(429, 502, 503, 504).contains(answer.statusCode())) throw new IllegalStateException(wrong);
            } catch (IOException error) {
                wrong = error.toString();
            }
            if (pauseS > 32) throw new IllegalStateException(wrong);
            Thread.sleep(pauseS * 1000);
        }
    }
}
