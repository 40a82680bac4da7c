<?php
// Scores 5,000 responses and waits for a person's decision: php score_and_wait.php
declare(strict_types=1);

function call(string $path, ?array $body = null): array
{
    $token = getenv('SCOREMUX_TOKEN');
    $context = stream_context_create(['http' => [
        'method' => $body ? 'POST' : 'GET',
        'header' => ['Content-Type: application/json', ...($token ? ["Authorization: Bearer $token"] : [])],
        'content' => $body ? json_encode($body, JSON_THROW_ON_ERROR) : '',
        'ignore_errors' => true,
    ]]);
    $answer = file_get_contents((getenv('SCOREMUX_URL') ?: 'http://127.0.0.1:8005') . $path, false, $context);
    $values = json_decode($answer, true, flags: JSON_THROW_ON_ERROR);
    if (!isset($values['detail'])) return $values; // else it is a problem (RFC 9457)
    if (!$values['retryable']) throw new RuntimeException("{$values['status']}: {$values['detail']}");
    sleep(1);
    return call($path, $body);
}

$run = bin2hex(random_bytes(4));
// Ids are new in each run; the sandbox takes the outcome from their beginning: `limited` is refused once with 429.
$rows = array_map(fn (int $n) => ['id' => (['limited', 'human'][$n] ?? 'machine') . "-$run-$n",
    'task' => 'sandbox-1', 'text' => 'It hands out addresses.'], range(0, 4999));
$requests = array_chunk($rows, 512);
for ($process = 0; $process < 4; $process++) { // four processes, each with one request at a time
    if (pcntl_fork() !== 0) continue;
    for ($n = $process; $n < count($requests); $n += 4)
        echo count(call('/v1/score', ['rows' => $requests[$n]])['rows']), " rows scored\n";
    exit;
}
while (pcntl_wait($status) > 0);

for ($after = '', $found = false; !$found; $after = "&after={$page['cursor']}") { // a platform stores the cursor
    $page = call("/v1/changes?wait=30$after");
    foreach ($page['changes'] as ['id' => $id, 'type' => $type, 'level' => $level])
        if ($found = $id === "human-$run-1") break;
}
echo "$id $type level $level\n";
