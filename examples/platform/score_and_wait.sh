#!/bin/sh
# Scores two responses and waits for a person's decision: sh score_and_wait.sh (needs curl and jq)
set -eu
url=${SCOREMUX_URL:-http://127.0.0.1:8005}
run=$(date +%s)-$$ # ids are new in each run; the sandbox takes the outcome from their beginning
call() {
    curl --silent --show-error --fail-with-body --retry 5 \
        ${SCOREMUX_TOKEN:+--header "Authorization: Bearer $SCOREMUX_TOKEN"} "$@"
}

rows=$(cat <<END
{"rows": [
  {"id": "machine-$run", "task": "sandbox-1", "text": "It hands out addresses."},
  {"id": "human-$run", "task": "sandbox-1", "text": "It gives every device its address."}
]}
END
)
scored=$(call --json "$rows" --header "Idempotency-Key: $run" "$url/v1/score")
echo "$scored" | jq --raw-output '.rows[] | "\(.id) \(.status) level \(.level) \(.route)"'

echo "$scored" | jq --raw-output '.rows[] | select(.route | startswith("human")) | "\(.task)/\(.id)"' |
while read -r name; do
    until row=$(call "$url/v1/rows/$name") && [ "$(echo "$row" | jq --raw-output .state)" = final ]; do
        sleep 1
    done
    echo "$row" | jq --raw-output '"\(.id) \(.state) level \(.level)"'
done
