{{- define "scoremux.name" -}}
{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- define "scoremux.selector" -}}
app.kubernetes.io/name: scoremux
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "scoremux.labels" -}}
{{ include "scoremux.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "scoremux.claim" -}}
{{ .Values.repository.existingClaim | default (printf "%s-repository" (include "scoremux.name" .)) }}
{{- end }}

{{/* Where Triton listens, and where its metrics do: on loopback, unless something outside the pod must reach it. */}}
{{- define "scoremux.address" -}}
{{ .Values.door.enabled | ternary "127.0.0.1" "0.0.0.0" }}
{{- end }}

{{- define "scoremux.metricsAddress" -}}
{{ .Values.metrics.enabled | ternary "0.0.0.0" "127.0.0.1" }}
{{- end }}

{{/* The last value of `key` in `set`, as the server takes it, else `default`. */}}
{{- define "scoremux.setting" -}}
{{- $found := .default }}
{{- range .set }}
{{- if hasPrefix (printf "%s=" $.key) . }}
{{- $found = trimPrefix (printf "%s=" $.key) . | trim }}
{{- end }}
{{- end }}
{{- $found }}
{{- end }}

{{/* Fails, with a sentence, where values fit the schema but not each other. */}}
{{- define "scoremux.check" -}}
{{- $profile := .Values.profile }}
{{- $bundled := has $profile (list "cpu" "cpu-reference") | ternary "bundled" "" }}
{{- if eq "bundled" (include "scoremux.setting" (dict "key" "triton" "default" $bundled "set" .Values.set)) }}
{{- if not .Values.door.enabled }}
{{- fail (printf "door.enabled is false, but profile %s serves with the bundled Triton, which listens on loopback only: nobody could reach it. Leave the door on, or take a profile for NVIDIA's Triton" $profile) }}
{{- end }}
{{- if .Values.metrics.enabled }}
{{- fail (printf "metrics.enabled is true, but profile %s serves with the bundled Triton, which listens on loopback only. Say metrics.enabled=false (values-cpu.yaml does), or take a profile for NVIDIA's Triton" $profile) }}
{{- end }}
{{- end }}
{{- if .Values.door.enabled }}
{{- $taken := dict "8000" "Triton's HTTP" "8001" "Triton's gRPC" "8002" "Triton's metrics" "8080" "the watcher" }}
{{- with get $taken (int64 .Values.door.port | toString) }}
{{- fail (printf "door.port is %d, where %s listens in the same pod: choose another, such as 8443" (int64 $.Values.door.port) .) }}
{{- end }}
{{- end }}
{{- with .Values.autoscaling }}
{{- if and .enabled (gt (int64 .least) (int64 .most)) }}
{{- fail (printf "autoscaling.least is %d, more than autoscaling.most, which is %d" (int64 .least) (int64 .most)) }}
{{- end }}
{{- end }}
{{- with .Values.rollout }}
{{- $none := list "0" "0%" }}
{{- if and (has (toString .maxSurge) $none) (has (toString .maxUnavailable) $none) }}
{{- fail "rollout.maxSurge and rollout.maxUnavailable are both 0: no pod could ever be replaced" }}
{{- end }}
{{- end }}
{{- range .Values.set }}
{{- if hasPrefix "audit_log=" . }}
{{- fail (printf "set has %s, a file that would die with its pod: name a claim in audit.claim, where each pod gets a file of its own" .) }}
{{- end }}
{{- if hasPrefix "audit_key_file=" . }}
{{- fail (printf "set has %s, a file that no pod has: name a secret in audit.keySecret" .) }}
{{- end }}
{{- end }}
{{- if and .Values.audit.keySecret (not .Values.audit.claim) }}
{{- fail "audit.keySecret is of no use without audit.claim" }}
{{- end }}
{{- $traces := include "scoremux.setting" (dict "key" "trace_url" "default" "" "set" .Values.set) }}
{{- $outside := and $traces (not (regexMatch "^https?://(localhost|127[.][0-9.]+|\\[::1\\])(:[0-9]+)?(/|$)" $traces)) }}
{{- if and $outside .Values.networkPolicy.enabled (not .Values.networkPolicy.collectors) }}
{{- fail (printf "set has trace_url=%s, but the network policy lets nothing out of a pod: name the collector's peers in networkPolicy.collectors" $traces) }}
{{- end }}
{{- end }}

{{- define "scoremux.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* Bytes of a quantity of memory, such as 512Mi. */}}
{{- define "scoremux.bytes" -}}
{{- $text := kindIs "string" . | ternary . (printf "%d" (int64 .)) }}
{{- $unit := regexReplaceAll "^[0-9]+([.][0-9]+)?" $text "" }}
{{- $units := dict "" 1 "k" 1000 "M" 1000000 "G" 1000000000 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 }}
{{- if or (eq $unit $text) (not (hasKey $units $unit)) }}
{{- fail (printf "%s is no quantity of memory such as 512Mi or 1Gi" $text) }}
{{- end }}
{{- mulf (trimSuffix $unit $text | float64) (get $units $unit) | int64 }}
{{- end }}

{{/*
Fails where the door's memory cannot hold `streams` uploads of the largest request on each connection: 128 MiB, and for
each upload the buffer (request_bytes + 64 KiB) and 128 KiB of TLS and stream. Measured with HAProxy 3.0: 70 MiB, and 2.03
MiB for each of 100 uploads of 2 MB.
*/}}
{{- define "scoremux.doorFits" -}}
{{- $limit := dig "limits" "memory" "" .resources }}
{{- if $limit }}
{{- $rest := sub (include "scoremux.bytes" $limit | int64) 134217728 }}
{{- $fit := div (max $rest 0) (mul (int64 .streams) (add (int64 .requestBytes) 196608)) }}
{{- if gt (int64 .connections) (int64 $fit) }}
{{- fail (printf "door.connections is %d, but door.resources.limits.memory (%v) holds only %d with %d uploads (door.streams) of door.requestBytes (%d) each: raise the limit, or lower one of them" (int64 .connections) $limit $fit (int64 .streams) (int64 .requestBytes)) }}
{{- end }}
{{- end }}
{{- end }}
