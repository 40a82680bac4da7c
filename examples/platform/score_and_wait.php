<?php
// Scores two responses and waits for a person's decision: php score_and_wait.php
declare(strict_types=1);

function call(string $method, string $path, ?array $body = null, array $headers = []): array
{
    if ($token = getenv('SCOREMUX_TOKEN')) {
        $headers[] = "Authorization: Bearer $token";
    }
    $headers[] = 'Content-Type: application/json';
    $context = stream_context_create(['http' => [
        'method' => $method,
        'header' => $headers,
        'content' => $body === null ? '' : json_encode($body, JSON_THROW_ON_ERROR),
        'ignore_errors' => true,
    ]]);
    $answer = file_get_contents((getenv('SCOREMUX_URL') ?: 'http://127.0.0.1:8005') . $path, false, $context);
    $values = json_decode($answer, true, flags: JSON_THROW_ON_ERROR);
    if (isset($values['detail'])) { // a problem; where it is retryable, Retry-After says when
        throw new RuntimeException("{$values['status']}: {$values['detail']}");
    }
    return $values;
}

$run = bin2hex(random_bytes(4));
// Ids are new in each run; the sandbox takes the outcome from their beginning.
$rows = [
    ['id' => "machine-$run", 'task' => 'sandbox-1', 'text' => 'It hands out addresses.'],
    ['id' => "human-$run", 'task' => 'sandbox-1', 'text' => 'It gives every device its address.'],
];
$scored = call('POST', '/v1/score', ['rows' => $rows], ["Idempotency-Key: $run"])['rows'];
foreach ($scored as $row) {
    echo "{$row['id']} {$row['status']} level {$row['level']} {$row['route']}\n";
}
foreach ($scored as $row) {
    if (!str_starts_with($row['route'] ?? '', 'human')) {
        continue;
    }
    while (($decided = call('GET', "/v1/rows/{$row['task']}/{$row['id']}"))['state'] !== 'final') {
        sleep(1);
    }
    echo "{$decided['id']} {$decided['state']} level {$decided['level']}\n";
}
