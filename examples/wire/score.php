<?php
// Scores lines "task TAB text": php score.php http://localhost:8000 [TOKEN] < rows.tsv (PHP 8, no extension).
const OUTPUTS = ["STATUS", "LEVEL", "SCORE", "ROUTE"];
const MOST_ROWS = 512;

function tensor(string $name, array $data): array {
    return ["name" => $name, "datatype" => "BYTES", "shape" => [count($data), 1], "data" => $data];
}

function post(string $url, string $body, string $token): array {
    $header = "Content-Type: application/json\r\n" . ($token ? "Authorization: Bearer $token\r\n" : "");
    $options = ["method" => "POST", "header" => $header, "content" => $body, "timeout" => 120, "ignore_errors" => true];
    for ($pause = 1; ; $pause *= 2) {  // sending a row twice does no harm
        $http_response_header = [];
        $answer = @file_get_contents($url, false, stream_context_create(["http" => $options]));
        $code = (int) (explode(" ", $http_response_header[0] ?? "HTTP/1.1 0")[1]);
        if ($code === 200) {
            return json_decode($answer, true, 512, JSON_THROW_ON_ERROR);
        }
        if ($pause > 32 || !in_array($code, [0, 429, 502, 503, 504], true)) {
            throw new RuntimeException("HTTP $code: $answer");
        }
        sleep($pause);
    }
}

$rows = array_map(fn($line) => explode("\t", $line, 2), file("php://stdin", FILE_IGNORE_NEW_LINES));
foreach (array_chunk($rows, MOST_ROWS) as $part) {
    $inputs = [tensor("TASK", array_column($part, 0)), tensor("TEXT", array_column($part, 1))];
    $request = ["inputs" => $inputs, "outputs" => array_map(fn($name) => ["name" => $name], OUTPUTS)];
    $body = json_encode($request, JSON_THROW_ON_ERROR);
    $columns = array_column(post("$argv[1]/v2/models/scorer/infer", $body, $argv[2] ?? "")["outputs"], "data", "name");
    foreach (array_keys($part) as $i) {  // STATUS first: SCORE of a row without one is no number of points
        [$status, $level, $score, $route] = array_map(fn($name) => $columns[$name][$i], OUTPUTS);
        echo implode("\t", [$status, $level, $status === "OK" ? $score : "", $route]), "\n";
    }
}
